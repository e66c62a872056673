"""Bodies and queries of batches, and how the API shows a batch. The API calls a batch a group schedule."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from common.errors import Invalid
from common.fields import Audit, Id, bounded_text
from common.paging import Page, Paginated, Pagination
from scheduling.batches.rules import is_expanding
from scheduling.models import Schedule
from scheduling.schedules.schemas import (
    ContentUpdate,
    ScheduleFields,
    ScheduleOut,
    WallTime,
    render_fields,
)

if TYPE_CHECKING:
    Name = str
else:
    Name = bounded_text(200, min_length=1)

_ID: TypeAdapter[int] = TypeAdapter(Id)


class GroupScheduleUpdate(ContentUpdate):
    """Changes of a batch. Omitted fields stay. `group_id` cannot change."""

    name: Name = ""
    group: Annotated[Id | None, Field(description="another name of `group_id`")] = None
    group_id: Id | None = None


class GroupScheduleCreate(GroupScheduleUpdate):
    """A new batch, or all of one (PUT): a name, a group, and a time within the next 366 days."""

    name: Name
    scheduled_time: WallTime


class GroupScheduleFields(ScheduleFields):
    """The fields of a batch before its audit fields."""

    name: str
    group_name: str | None
    child_count: int
    expanding: bool = Field(description="whether rows of its messages are still being created")


class GroupScheduleOut(Audit, GroupScheduleFields):
    """A batch. It shows its text as written, and its parts as with empty placeholder values."""


class GroupScheduleCreated(GroupScheduleOut):
    """A batch with its first messages."""

    schedules: Sequence[ScheduleOut]


class GroupScheduleDetail(GroupScheduleCreated):
    """A batch with a page of its messages, and how many messages have which status."""

    pagination: Pagination
    counts: dict[str, int] = Field(description="number of messages by status; each status has a number, also 0")


class References(BaseModel):
    """The reservations that delivery asks about."""

    references: list[UUID]


class KnownReservations(BaseModel):
    """Those of the reservations that belong to an open schedule."""

    known: list[UUID]


def render_batch(row: Schedule, v1: bool) -> GroupScheduleOut:
    """Return the answer of a batch, with `v1` in the older status names."""
    return GroupScheduleOut(**render_batch_fields(row, v1))


def render_batches(rows: Sequence[Schedule], total: int, page: Page, v1: bool) -> Paginated[GroupScheduleOut]:
    """Return the answer of a page of batches."""
    return Paginated(results=[render_batch(row, v1) for row in rows], pagination=Pagination.of(page, total))


def render_batch_fields(row: Schedule, v1: bool) -> dict[str, Any]:
    """Return the fields of GroupScheduleOut."""
    return {
        **render_fields(row.columns(), v1),
        "group_name": row.group_name,
        "child_count": row.message_count,
        "expanding": is_expanding(row),
    }


def read_group_id(given: str | None) -> int | None:
    """Return `?group_id=`, None when absent. Raises Invalid under its name."""
    if not given:
        return None
    try:
        return _ID.validate_python(given)
    except ValidationError:
        raise Invalid.field("group_id", "Enter a whole number.") from None
