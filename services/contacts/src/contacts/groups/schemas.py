"""Groups as they are sent and shown."""

from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from common.fields import Audit, Id, bounded_text
from common.paging import Paginated
from contacts.contacts.service import Contact

if TYPE_CHECKING:
    Name: TypeAlias = str
    Description: TypeAlias = str
else:
    Name = bounded_text(200, min_length=1)
    Description = bounded_text(1000)
MAX_IDS = 1000
ContactIds = Annotated[list[Id], Field(min_length=1, max_length=MAX_IDS)]


class GroupPatch(BaseModel):
    """The fields to change; what is left out stays."""

    name: Name = ""
    description: Description = ""
    is_active: bool = True


class GroupWrite(GroupPatch):
    """A group as PUT takes it."""

    name: Name


class GroupCreate(GroupWrite):
    """A group as POST takes it."""

    member_ids: Annotated[list[Id], Field(max_length=MAX_IDS)] = []


class MembersIn(BaseModel):
    """The contacts to add or take out."""

    contact_ids: ContactIds


class _Group(BaseModel):
    id: int
    name: str
    description: str
    is_active: bool
    member_count: int


class GroupOut(Audit, _Group):
    """A group; the count is of its active members."""

    model_config = ConfigDict(from_attributes=True)


class GroupDetail(GroupOut):
    """A group with a page of its members."""

    members: Paginated[Contact]


class MembersAdded(BaseModel):
    """How many became members, and how many there are now."""

    added: int
    member_count: int


class MembersRemoved(BaseModel):
    """How many were taken out, and how many are left."""

    removed: int
    member_count: int


class GroupState(BaseModel):
    """What scheduling must know of a group; `eligible_count`: members who may be written to."""

    id: int
    name: str
    is_active: bool
    eligible_count: int
