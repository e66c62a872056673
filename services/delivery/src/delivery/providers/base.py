"""The port to the carriers: what a provider is given, what it may answer, and the closed list of its failures."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal
from uuid import UUID

from common.events import Category


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """One message as a provider gets it. `id` is our reference; `phone` is E.164."""

    id: int
    phone: str
    text: str
    subject: str | None = None
    media_url: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one message of a call that was answered.

    `refused` is for good unless `retryable`; `missing` was not in the answer: only a receipt or look-up settles it.
    """

    status: Literal["accepted", "refused", "missing"]
    provider_message_id: str | None = None
    category: Category | None = None
    error: str | None = None
    retryable: bool = False


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
    """The fault is with our account or set-up: credentials, credit, permission."""

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


class Provider(ABC):
    """A carrier's gateway. `prepare` gives the bytes of a request, which `send` can send again and again as they are.

    `idempotent`: a repetition under the same key is answered with the first answer, and nothing is sent twice.
    `is_vendor`: what it takes reaches people, so numbers of fiction are kept from it.
    """

    name: ClassVar[str]
    supports_mms: ClassVar[bool]
    idempotent: ClassVar[bool]
    batch_size: int
    concurrency: int
    is_vendor: bool = False

    @abstractmethod
    def prepare(self, messages: Sequence[OutgoingMessage]) -> bytes:
        """The body of one request, the same for the same messages."""

    @abstractmethod
    async def send(self, key: UUID, body: bytes, references: Sequence[int]) -> list[Outcome]:
        """One outcome per reference, in order. Raises a CallError and nothing else."""

    async def close(self) -> None:  # noqa: B027 (most have something to close, not all)
        """Frees connections."""
