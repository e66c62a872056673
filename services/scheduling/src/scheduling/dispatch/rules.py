"""Decide about a due schedule: the event that dispatches it, or why it is not sent."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from common.events import FailureCategory, ScheduleDue
from scheduling.models import Address, Content
from scheduling.templates.rules import fill
from scheduling.texts.rules import check_filled


@dataclass(frozen=True, slots=True)
class DueSchedule:
    """A due single schedule, or a due message of a batch. `dispatch_number` counts its dispatches so far."""

    id: int
    organisation_id: str
    batch_id: int | None
    address: Address
    content: Content
    scheduled_time: datetime
    dispatch_number: int
    reservation: UUID | None
    request_id: str
    traceparent: str | None = None
    is_organisation_closed: bool = False

    @property
    def filled_text(self) -> str:
        """The text as the recipient gets it."""
        return fill(self.content.text, self.address.fields)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A due schedule that is not sent: it fails, or without a category it is cancelled."""

    schedule: DueSchedule
    failure_category: FailureCategory | None = None
    error: str | None = None


def decide(due: DueSchedule, max_parts: int) -> ScheduleDue | Refusal:
    """Return the event of the schedule's next dispatch, or the reason why there is none."""
    if due.is_organisation_closed:
        return Refusal(due)
    text = due.filled_text
    parts, fault = check_filled(due.content.format, text, max_parts)
    if fault is not None:
        return Refusal(due, "content_rejected", fault)
    return make_event(due, due.dispatch_number + 1, text, parts)


def make_event(due: DueSchedule, dispatch_number: int, text: str, parts: int) -> ScheduleDue:
    """Return the event of a dispatch. Its id follows from the dispatch, and only the first uses the reservation."""
    return ScheduleDue(
        event_id=ScheduleDue.id_of(due.id, dispatch_number),
        organisation_id=due.organisation_id,
        request_id=due.request_id,
        traceparent=due.traceparent,
        schedule_id=due.id,
        dispatch_number=dispatch_number,
        batch_id=due.batch_id,
        contact_id=due.address.contact_id,
        phone=due.address.phone,
        text=text,
        format=due.content.format,
        subject=due.content.subject,
        media_url=due.content.media_url,
        parts=parts,
        scheduled_time=due.scheduled_time,
        lane="bulk" if due.batch_id is not None else "single",
        reservation=due.reservation if dispatch_number == 1 else None,
    )
