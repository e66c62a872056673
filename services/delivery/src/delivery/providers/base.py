"""The port to the carriers: what a provider is given, may answer and tell, and the closed list of its failures."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Literal, TypeAlias
from uuid import UUID

from common.events import Category


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """One message as a provider gets it. `id`, marked as ours, is our reference; `phone` is E.164.

    `sender` is the organisation's own (E.164, or a name of letters), None: the provider's default.
    """

    id: int
    phone: str
    text: str
    format: Literal["sms", "mms"] = "sms"
    sender: str | None = None
    subject: str | None = None
    media_url: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one message of a call that was answered.

    `refused` is for good unless `retryable`; `missing` was not in the answer: only a receipt or look-up settles it.
    `raw` are the provider's own words, `parts` what it bills, where it says so.
    """

    status: Literal["accepted", "refused", "missing"]
    provider_message_id: str | None = None
    category: Category | None = None
    error: str | None = None
    retryable: bool = False
    parts: int | None = None
    raw: str | None = None


MISSING = Outcome("missing")


class CallError(Exception):
    """A call failed as a whole. `maybe_taken`: the provider may have the messages, so they are not sent anew."""

    category: ClassVar[Category] = "unknown"
    maybe_taken: ClassVar[bool] = False

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotConnected(CallError):
    """No connection: nothing was sent. The attempt does not count."""

    category = "provider_unavailable"


class Throttled(CallError):
    """The provider asks for patience (429; 503 with Retry-After). The attempt does not count."""

    category = "rate_limited"

    def __init__(self, reason: str, retry_after_s: float) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class AccountFault(CallError):
    """The fault is with our account or set-up: credentials, credit, permission. The attempt does not count.

    It keeps the provider from everybody for a while, so it is not for what one message or one organisation's sender
    is refused for.
    """

    category = "account_error"


class BatchRefused(CallError):
    """The request is refused as a whole (400, 413): its messages go one by one; one alone fails for good."""

    def __init__(self, reason: str, item: Outcome) -> None:
        super().__init__(reason)
        self.item = item


class OutcomeUnknown(CallError):
    """The request was written and its outcome is not known: time-out, reset, 5xx, an answer that makes no sense."""

    category = "outcome_unknown"
    maybe_taken = True


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a provider tells later about a message it took. `id` is the same when it tells the same again.

    The message is found by `reference` (ours, without its mark) or by the provider's own id. A provider that reports
    each part says which of how many.
    """

    id: str
    status: Literal["sent", "delivered", "failed"]
    raw: str
    reference: int | None = None
    provider_message_id: str | None = None
    category: Category | None = None
    error: str | None = None
    part: int = 1
    of_parts: int = 1
    billed_parts: int | None = None
    occurred_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Inbound:
    """A message that somebody sent to one of our numbers. `id` is the same when the provider tells it again.

    `phone` and `to` are as the provider writes them. `reference` or `answers_id` (the provider's) name the message
    that it answers, where the provider knows. `keyword` is what the provider itself took it for.
    """

    id: str
    phone: str
    to: str
    text: str
    received_at: datetime
    provider_message_id: str | None = None
    reference: int | None = None
    answers_id: str | None = None
    keyword: Literal["stop", "start", "help"] | None = None
    media_urls: tuple[str, ...] = ()


Notice: TypeAlias = Receipt | Inbound


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A request to `/api/webhooks/providers/<provider>/<kind>/`, as its signature needs it.

    `url` is the public one with its query; names of `headers` are in lower case; `body` is as it came.
    """

    kind: str
    url: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


class WebhookRefused(Exception):
    """Not signed as this provider signs, or too old: nothing in it is believed. The text says what is wrong."""


class WebhookMalformed(Exception):
    """Signed, but it says nothing that can be understood. The text names the field."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How an account stands. `credit` in the provider's own unit, None where it does not say."""

    credit: str | None = None
    senders: tuple[str, ...] = ()


class Provider(ABC):
    """A carrier's gateway. `prepare` gives the bytes of a request, which `send` can send again and again as they are.

    What it declares, the sender keeps to:
    `formats`: what it takes. `idempotent`: a repetition under the same key is answered with the first answer, and
    nothing is sent twice. `receipts`: it tells later what became of a message. `looks_up`: it can be asked for a
    message by its own id. `answers_stop`: it answers STOP, START and HELP itself and refuses who stopped
    (STOP_ANSWERED_BY may take it out).
    `batch_size`: messages a request. `concurrency`: requests in flight. `rate`: parts a second, 0: no bound.
    `is_vendor`: what it takes reaches people, so numbers of fiction are kept from it.
    """

    name: ClassVar[str]
    formats: ClassVar[frozenset[str]] = frozenset({"sms"})
    idempotent: ClassVar[bool] = False
    receipts: ClassVar[bool] = False
    looks_up: ClassVar[bool] = False
    answers_stop: bool = False
    batch_size: int = 1
    concurrency: int = 1
    rate: float = 0.0
    is_vendor: bool = False
    # What a webhook of this provider is answered with: media type and body.
    webhook_answer: ClassVar[tuple[str, str]] = ("application/json", '{"status": "ok"}')

    @abstractmethod
    def prepare(self, messages: Sequence[OutgoingMessage]) -> bytes:
        """The body of one request, the same for the same messages."""

    @abstractmethod
    async def send(self, key: UUID, body: bytes, references: Sequence[int]) -> list[Outcome]:
        """One outcome per reference, in order. Raises a CallError and nothing else."""

    async def read_webhook(self, request: WebhookRequest) -> Sequence[Notice]:
        """What a webhook tells, once its signature holds.

        Raises WebhookRefused, WebhookMalformed; a CallError when what proves it cannot be had just now (503: again).
        """
        raise WebhookRefused(f"{self.name} has no webhooks")

    async def look_up(self, provider_message_id: str) -> Receipt | None:
        """What the provider says of a message today; None when it does not know it, which proves nothing.

        Raises a CallError.
        """
        return None

    async def check(self) -> Standing:
        """Asks with our credentials for something harmless. Raises a CallError when the provider cannot be used."""
        return Standing()

    async def close(self) -> None:  # noqa: B027 (most have something to close, not all)
        """Frees connections."""
