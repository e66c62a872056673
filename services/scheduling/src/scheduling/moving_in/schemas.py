"""Rows of an earlier system as scheduling imports them. Phones are E.164, texts are cleaned, times are aware."""

from datetime import date, datetime
from operator import itemgetter
from typing import Any, NamedTuple


class TemplateIn(NamedTuple):
    """A template of an earlier system. `month` is that of its creation."""

    old_id: int
    organisation_id: str
    month: date
    name: str
    text: str
    is_active: bool
    created_by: int | None
    updated_by: int | None
    created_at: datetime
    updated_at: datetime


class ScheduleIn(NamedTuple):
    """A single message, a batch or a message of a batch of an earlier system.

    Its ids of group, contact, template and batch are those of this system. `old_status` is what the earlier system
    says, and `status` what becomes of it. A status that depends on the time is imported once, so it is no change of the
    row. `month` is that of the scheduled time.
    """

    old_id: int
    organisation_id: str
    month: date
    old_status: str
    kind: str
    batch_id: int | None
    group_id: int | None
    group_name: str | None
    contact_id: int | None
    contact_version: int
    phone: str | None
    fields: dict[str, str]
    name: str | None
    template_id: int | None
    text: str
    message_parts: int | None
    scheduled_time: datetime
    format: str
    media_url: str | None
    subject: str | None
    sent_time: datetime | None
    created_by: int | None
    updated_by: int | None
    created_at: datetime
    updated_at: datetime
    status: str
    error: str | None
    failure_category: str | None

    def source_values(self) -> tuple[Any, ...]:
        """Return what the earlier system says, and nothing that depends on the time or changes here."""
        values: tuple[Any, ...] = _SOURCE_VALUES(self)
        return values


_NOT_OF_SOURCE = {"status", "error", "failure_category", "contact_version", "fields", "group_name", "message_parts"}
_SOURCE_VALUES = itemgetter(*(place for place, name in enumerate(ScheduleIn._fields) if name not in _NOT_OF_SOURCE))


class MovedUsage(NamedTuple):
    """The parts that the earlier system sent in a month of the organisation's time zone."""

    organisation_id: str
    period: date
    format: str
    parts: int
