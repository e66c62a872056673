"""Changes of messages as values, the outcome of a message as an event, and why delivery refuses a message. Pure."""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, NamedTuple
from uuid import UUID

from common.events import FailureCategory, Format, MessageDelayed, MessageDelivered, MessageFailed, MessageSent
from common.sms import measure
from delivery.models import OPEN, MessageStatus, OutcomeRow
from delivery.opt_outs.rules import REFUSES_RECIPIENT

OutcomeEvent = MessageSent | MessageDelivered | MessageDelayed | MessageFailed

# The reason why the message {m} must not be sent, or NULL: SQL, evaluated at intake and again at the claim.
REFUSAL = f"""
    CASE WHEN (SELECT closed FROM organisations o WHERE o.organisation_id = {{m}}.organisation_id) THEN 'blocked'
         WHEN {REFUSES_RECIPIENT} THEN 'opted_out' END
"""  # noqa: S608  # constants
# The errors of messages that delivery itself fails.
ERRORS: dict[FailureCategory, str] = {
    "opted_out": "The recipient has opted out.",
    "blocked": "The organisation is closed.",
    "limit_exceeded": "The limit of this month is reached.",
    "expired": "The message could not be sent before its deadline.",
    "invalid_number": "This number is reserved for fiction. No phone has it.",
    "outcome_unknown": "The provider did not confirm whether it accepted the message.",
}
# What a provider's refusal or failed delivery means to the customer. The provider's own text follows the sentence.
_PROVIDER_FAILURES: dict[FailureCategory, str] = {
    "opted_out": "The recipient has opted out at the provider.",
    "blocked": "The recipient's network or phone blocks this message.",
    "expired": "The phone could not be reached in time.",
    "invalid_number": "This phone number does not exist or cannot receive messages.",
    "unroutable": "The recipient's network or phone cannot be reached.",
    "content_rejected": "The provider or the network does not accept the content of this message.",
    "account_error": "The provider does not accept the account or the sender of this message. Tell your administrator.",
    "rate_limited": "The provider limits how fast messages are sent.",
    "provider_unavailable": "The provider or the network has a fault.",
}
_OTHER_PROVIDER_FAILURE = "The provider could not deliver this message."
_MAX_ERROR = 500
# Status in the API → the statuses of outbound messages that it stands for.
PUBLIC_STATUSES: dict[str, tuple[MessageStatus, ...]] = {
    "processing": OPEN,
    "sent": (MessageStatus.SENT,),
    "delivered": (MessageStatus.DELIVERED,),
    "failed": (MessageStatus.FAILED,),
}
RECEIVED = "received"  # the status of inbound messages in the API


@dataclass(frozen=True, slots=True)
class MessageSearch:
    """Restrict a search for messages. None does not restrict. `before` is a message: only older ones match."""

    organisation_id: str | None = None
    provider_message_id: str | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a message is not sent, or not yet."""

    category: FailureCategory
    error: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider says about one message: its id, the parts that it bills, its own status."""

    provider_message_id: str | None = None
    parts: int | None = None
    raw: str | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """How a message is tried again: after a delay, without counting the attempt, or in a submission of its own."""

    delay_s: float = 0.0
    returns_attempt: bool = False
    is_separate: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What one try of a submission means for one message.

    `status` is the message's next status. `may_resend`: a resend of the submission can lead to an answer.
    """

    message_id: int
    key: UUID
    tries: int
    status: MessageStatus
    failure: Failure | None = None
    answer: Answer = field(default_factory=Answer)
    retry: Retry = field(default_factory=Retry)
    may_resend: bool = False


@dataclass(frozen=True, slots=True)
class MessageUpdate:
    """The new values of a message after its delivery receipts. `is_new_status`: the status changes."""

    message_id: int
    is_new_status: bool
    status: MessageStatus
    sent_time: datetime | None
    delivered_time: datetime | None
    failure_category: FailureCategory | None
    error: str | None
    provider_status: str
    provider_message_id: str | None
    billed_parts: int | None


class InSubmission(NamedTuple):
    """A message and the submission that it is in. `sender_id` is where it comes from, None if the provider chooses."""

    message_id: int
    submission_key: UUID
    tries: int = 1
    sender_id: str | None = None


class AutoReply(NamedTuple):
    """An auto-reply to the inbound message `auto_reply_to`. It counts against the limit of the month `period`."""

    organisation_id: str
    contact_id: int | None
    phone: str
    text: str
    parts: int
    period: date
    request_id: str
    traceparent: str | None
    auto_reply_to: int


def outcome_event(row: OutcomeRow) -> OutcomeEvent:
    """Return the event that publishes the outcome of a schedule's message, or that it is delayed."""
    state: dict[str, Any] = {
        "organisation_id": row.organisation_id,
        "request_id": row.request_id,
        "traceparent": row.traceparent,
        "message_id": row.id,
        "schedule_id": row.schedule_id,
        "batch_id": row.batch_id,
        "dispatch_number": row.dispatch_number,
        "version": row.version,
        "attempts": row.attempts,
        "provider": row.provider,
        "provider_message_id": row.provider_message_id,
    }
    if row.status == MessageStatus.SENT:
        return MessageSent(**state, sent_time=row.sent_time)
    if row.status == MessageStatus.DELIVERED:
        return MessageDelivered(**state, sent_time=row.sent_time, delivered_time=row.delivered_time)
    failure = {"failure_category": row.failure_category, "error": row.error}
    if row.status == MessageStatus.RETRY_WAIT:
        return MessageDelayed(**state, **failure, next_attempt_at=row.next_attempt_at)
    return MessageFailed(**state, **failure)


def describe_provider_failure(category: FailureCategory, provider_text: str | None) -> str:
    """Return the error of a message that a provider refused or could not deliver.

    It is a sentence for the customer, then the text and the code of the provider.
    """
    sentence = _PROVIDER_FAILURES.get(category, _OTHER_PROVIDER_FAILURE)
    if not provider_text:
        return sentence
    return f"{sentence} The provider says: {provider_text}"[:_MAX_ERROR]


def count_parts(message_format: Format, content: str) -> int:
    """Return the parts of an inbound message. A provider does not say how many it has. An MMS counts as one."""
    return 1 if message_format == "mms" else measure(content).parts


def public_status(status: MessageStatus | None) -> str:
    """Return the status of a message in the API. Inbound messages, which have no status, are `received`."""
    if status is None:
        return RECEIVED
    return next(name for name, statuses in PUBLIC_STATUSES.items() if status in statuses)
