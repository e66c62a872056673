"""Convert delivery's events to the outcome that a schedule shows."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from common.events import FailureCategory, MessageDelayed, MessageDelivered, MessageFailed, MessageSent
from scheduling.models import ScheduleStatus

OutcomeEvent: TypeAlias = MessageSent | MessageFailed | MessageDelayed | MessageDelivered


@dataclass(frozen=True, slots=True)
class Outcome:
    """The state of a dispatch after an event of delivery."""

    schedule_id: int
    organisation_id: str
    dispatch_number: int
    version: int
    status: ScheduleStatus
    attempts: int
    provider: str | None
    sent_time: datetime | None = None
    delivered_time: datetime | None = None
    next_attempt_at: datetime | None = None
    failure_category: FailureCategory | None = None
    error: str | None = None


def outcome_of(event: OutcomeEvent) -> Outcome:
    """Return the outcome of an event. A delayed message stays in processing."""
    outcome = Outcome(
        schedule_id=event.schedule_id,
        organisation_id=event.organisation_id,
        dispatch_number=event.dispatch_number,
        version=event.version,
        status=ScheduleStatus.PROCESSING,
        attempts=event.attempts,
        provider=event.provider,
    )
    match event:
        case MessageSent():
            return replace(outcome, status=ScheduleStatus.SENT, sent_time=event.sent_time)
        case MessageDelivered():
            status = ScheduleStatus.DELIVERED
            return replace(outcome, status=status, sent_time=event.sent_time, delivered_time=event.delivered_time)
        case MessageDelayed():
            return replace(outcome, next_attempt_at=event.next_attempt_at)
        case MessageFailed():
            status = ScheduleStatus.FAILED
            return replace(outcome, status=status, failure_category=event.failure_category, error=event.error)
