"""What is due, and the event that says so: pure."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from common.events import Format, ScheduleDue
from scheduling.texts.service import Names, fill


@dataclass(frozen=True, slots=True)
class Due:
    """All that one run of a single schedule or a child needs. `text` is as written; `run` counts the runs so far."""

    id: int
    organisation_id: str
    parent_id: int | None
    contact_id: int | None
    phone: str
    first_name: str
    last_name: str
    company: str
    text: str
    format: Format
    subject: str | None
    media_url: str | None
    scheduled_time: datetime
    run: int
    hold: UUID | None
    request_id: str
    closed: bool = False

    @property
    def filled(self) -> str:
        """The text as it goes to the recipient."""
        return fill(self.text, Names(self.first_name, self.last_name, self.company))


def make_due(due: Due, run: int, text: str, parts: int) -> ScheduleDue:
    """The event of one run: the same id whenever it is made for the same run. Only run 1 draws on a hold."""
    return ScheduleDue(
        event_id=ScheduleDue.id_of(due.id, run),
        organisation_id=due.organisation_id,
        request_id=due.request_id,
        schedule_id=due.id,
        run=run,
        group_schedule_id=due.parent_id,
        contact_id=due.contact_id,
        phone=due.phone,
        text=text,
        format=due.format,
        subject=due.subject,
        media_url=due.media_url,
        parts=parts,
        scheduled_time=due.scheduled_time,
        lane="bulk" if due.parent_id is not None else "single",
        hold=due.hold if run == 1 else None,
    )
