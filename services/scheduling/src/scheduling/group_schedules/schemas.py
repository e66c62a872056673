"""Bodies of group schedules."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import BaseModel, TypeAdapter, ValidationError

from common.errors import Invalid
from common.fields import Audit, Id, line
from common.paging import Pagination
from scheduling.schedules.service import ContentUpdate, ScheduleFields, ScheduleOut, WallTime

if TYPE_CHECKING:
    Name = str
else:
    Name = line(200, min_length=1)

_ID: TypeAdapter[int] = TypeAdapter(Id)


class GroupScheduleUpdate(ContentUpdate):
    """What is left out stays. `group_id` cannot change."""

    name: Name = ""
    group: Id | None = None
    group_id: Id | None = None


class GroupScheduleCreate(GroupScheduleUpdate):
    """A named batch to the members of a group, at a time within the next 366 days. A PUT needs the same."""

    name: Name
    scheduled_time: WallTime


class GroupScheduleFields(ScheduleFields):
    """What a batch shows beside who wrote it."""

    group_name: str | None
    child_count: int


class GroupScheduleOut(Audit, GroupScheduleFields):
    """The parent of a batch: its text as written, its parts as with empty values."""


class GroupScheduleCreated(GroupScheduleOut):
    """With the first children that were made."""

    schedules: Sequence[ScheduleOut]


class GroupScheduleDetail(GroupScheduleCreated):
    """With a page of the children, and how many are in which status."""

    pagination: Pagination
    counts: dict[str, int]


class Retried(BaseModel):
    """How many messages go again."""

    retried: int


class References(BaseModel):
    """Holds that delivery asks about."""

    references: list[UUID]


class KnownHolds(BaseModel):
    """Those of them that an unfinished schedule carries."""

    known: list[UUID]


def read_group_id(given: str | None) -> int | None:
    """`?group_id=`, None when absent. Raises Invalid under its name."""
    if not given:
        return None
    try:
        return _ID.validate_python(given)
    except ValidationError:
        raise Invalid.field("group_id", "Enter a whole number.") from None
