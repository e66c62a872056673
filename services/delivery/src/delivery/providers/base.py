"""The port to the providers: what a provider is given, what it returns, and the closed list of its errors.

Nothing else passes between delivery and a provider. `docs/providers.md` shows how to write one.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Literal, TypeAlias
from uuid import UUID

from pydantic_settings import BaseSettings

from common.events import FailureCategory
from delivery.settings import OwnSettings, Settings

ReceiptStatus = Literal["sent", "delivered", "failed"]
Keyword = Literal["stop", "start", "help"]


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """One message as a provider gets it.

    `id` is our reference, which the provider sends with a mark of this installation (`webhook_parsing.Mark`).
    `phone` is E.164. `sender_id` is the organisation's own (E.164, or a name of letters and digits); None means the
    provider's default.
    """

    id: int
    phone: str
    text: str
    format: Literal["sms", "mms"] = "sms"
    sender_id: str | None = None
    subject: str | None = None
    media_url: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the provider's answer to a submission says about one of its messages.

    `status` is one of:
    - `accepted`: the provider has the message and will deliver it.
    - `refused`: the provider does not have the message. It fails, unless `retryable`: then it is tried again later.
    - `missing`: the answer does not mention the message. Only a delivery receipt or a look-up can say more.

    `parts` is the number of parts that the provider bills, if the answer says it. `raw` is the provider's own status.
    """

    status: Literal["accepted", "refused", "missing"]
    provider_message_id: str | None = None
    failure_category: FailureCategory | None = None
    error: str | None = None
    retryable: bool = False
    parts: int | None = None
    raw: str | None = None


MISSING = Outcome("missing")


class SubmissionError(Exception):
    """A submission failed as a whole. `send` raises one of the five subclasses below, and nothing else.

    `maybe_accepted`: the provider may have the messages, so they are not sent again as new ones.
    """

    failure_category: ClassVar[FailureCategory] = "unknown"
    maybe_accepted: ClassVar[bool] = False

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotConnected(SubmissionError):
    """There was no connection, so nothing was sent. The attempt does not count."""

    failure_category = "provider_unavailable"


class Throttled(SubmissionError):
    """The provider limits our rate (429, or 503 with Retry-After). The attempt does not count."""

    failure_category = "rate_limited"

    def __init__(self, reason: str, retry_after_s: float) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class AccountError(SubmissionError):
    """Our account or set-up is wrong: credentials, credit or permission. The attempt does not count.

    It opens the provider's circuit for every organisation. What concerns one message or the sender ID of one
    organisation is a refused `Outcome` instead.
    """

    failure_category = "account_error"


class SubmissionRefused(SubmissionError):
    """The provider refused the request as a whole (400, 413). Its messages are submitted one by one.

    `item` is the outcome of a message that was refused alone.
    """

    def __init__(self, reason: str, item: Outcome) -> None:
        super().__init__(reason)
        self.item = item


class OutcomeUnknown(SubmissionError):
    """The request was written, but its result is not known: time-out, reset, 5xx or an answer that cannot be read."""

    failure_category = "outcome_unknown"
    maybe_accepted = True


@dataclass(frozen=True, slots=True)
class DeliveryReceipt:
    """A provider's report about a message that it accepted.

    `id` is the same when the provider repeats the report. `reference` (our message id, without the mark) or
    `provider_message_id` names the message. `part` and `of_parts` say which part the report is about, for providers
    that report each part. `raw` is the provider's own status.
    """

    id: str
    status: ReceiptStatus
    raw: str
    reference: int | None = None
    provider_message_id: str | None = None
    failure_category: FailureCategory | None = None
    error: str | None = None
    part: int = 1
    of_parts: int = 1
    billed_parts: int | None = None
    occurred_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """A message from a phone to one of our sender IDs.

    `id` is the same when the provider repeats it. `phone` and `to` are as the provider writes them. `reference` (our
    message id) or `in_reply_to` (the provider's id) names the message that it answers, if the provider knows it.
    `keyword` is what the provider itself took the message for.
    """

    id: str
    phone: str
    to: str
    text: str
    received_at: datetime
    provider_message_id: str | None = None
    reference: int | None = None
    in_reply_to: str | None = None
    keyword: Keyword | None = None
    media_urls: tuple[str, ...] = ()


ProviderEvent: TypeAlias = DeliveryReceipt | InboundMessage


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A request to `/api/webhooks/providers/<provider>/<kind>/`, with everything that a signature may cover.

    `url` is the public address with its query. The names of `headers` are in lower case. `body` is the raw body.
    """

    kind: str
    url: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


class WebhookRefused(Exception):
    """The webhook has no valid signature of this provider, or is too old. The text says what is wrong."""


class WebhookMalformed(Exception):
    """The signature is valid, but the content cannot be understood. The text names the field."""


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """The state of our account at a provider. `credit` is in the provider's own unit, None if it does not say."""

    credit: str | None = None
    sender_ids: tuple[str, ...] = ()


class Provider(ABC):
    """A company that transmits messages for us.

    `prepare` returns the bytes of one request. `send` sends them, and may send the same bytes again later.

    What a class declares:
    - `name`: its name in settings, rows and URLs.
    - `settings_class`: the class of its own settings.
    - `formats`: the formats that it accepts.
    - `deduplicates`: it answers a repeated key with its first answer and sends nothing twice.
    - `sends_receipts`: it sends delivery receipts.
    - `can_look_up`: `look_up` can ask it about a message by the provider's id.
    - `webhook_kinds`: the last parts of the addresses of its webhooks.
    - `handles_opt_outs`: it answers STOP, START and HELP itself, and refuses messages to numbers that opted out. The
      setting STOP_ANSWERED_BY can switch this off.
    - `webhook_answer`: media type and body of our answer to its webhooks.

    What an instance may set:
    - `batch_size`: the maximum of messages in one request.
    - `concurrency`: the maximum of requests at once.
    - `rate`: the maximum of parts per second; 0 is no maximum.
    - `reaches_people`: it delivers to real phones, so fictional numbers are never sent to it.
    - `default_sender_id`: where messages come from whose organisation has no sender ID of its own; "" if the provider
      chooses.
    """

    name: ClassVar[str]
    settings_class: ClassVar[type[BaseSettings]] = OwnSettings
    formats: ClassVar[frozenset[str]] = frozenset({"sms"})
    deduplicates: ClassVar[bool] = False
    sends_receipts: ClassVar[bool] = False
    can_look_up: ClassVar[bool] = False
    webhook_kinds: ClassVar[frozenset[str]] = frozenset()
    handles_opt_outs: bool = False
    batch_size: int = 1
    concurrency: int = 1
    rate: float = 0.0
    reaches_people: bool = False
    default_sender_id: str = ""
    webhook_answer: ClassVar[tuple[str, str]] = ("application/json", '{"status": "ok"}')

    def __init__(self, settings: Settings, own: BaseSettings | None = None) -> None:  # noqa: B027 (optional)
        """Read the settings. `own`, of `settings_class`, is read from the environment when it is None.

        Raises InvalidSetting, which names what is missing or cannot be used.
        """

    @abstractmethod
    def prepare(self, messages: Sequence[OutgoingMessage]) -> bytes:
        """Return the body of one request. The same messages give the same bytes."""

    @abstractmethod
    async def send(self, key: UUID, body: bytes, references: Sequence[int]) -> list[Outcome]:
        """Send one request and return one outcome for each reference, in order.

        Raises a SubmissionError, and nothing else.
        """

    async def read_webhook(self, request: WebhookRequest) -> Sequence[ProviderEvent]:
        """Verify the signature of a webhook and return what it reports.

        Raises WebhookRefused and WebhookMalformed. Raises a SubmissionError when the signature cannot be checked at the
        moment; the provider is then asked to repeat the webhook (503).
        """
        raise WebhookRefused(f"{self.name} has no webhooks")

    async def look_up(self, provider_message_id: str) -> DeliveryReceipt | None:
        """Ask the provider about a message now. Return None if it does not know the message, which proves nothing.

        Raises a SubmissionError.
        """
        return None

    async def check(self) -> AccountStatus:
        """Check our credentials by a request that changes nothing. Raises a SubmissionError if they do not work."""
        return AccountStatus()

    async def close(self) -> None:  # noqa: B027 (optional)
        """Close connections."""
