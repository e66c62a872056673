"""The request and response bodies of groups."""

from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from common.fields import Audit, Flag, Id, RequestBody, bounded_text
from common.paging import Paginated
from contacts.contacts.schemas import ContactOut

if TYPE_CHECKING:
    Name: TypeAlias = str
    Description: TypeAlias = str
else:
    Name = bounded_text(200, min_length=1)
    Description = bounded_text(1000)
MAX_IDS = 1000
ContactIds = Annotated[list[Id], Field(min_length=1, max_length=MAX_IDS)]


class GroupPatch(RequestBody):
    """The fields to change. Fields that are left out stay as they are."""

    name: Name = ""
    description: Description = ""
    is_active: Flag = Field(True, description="false deletes the group, true restores it")


class GroupWrite(GroupPatch):
    """A group with its changes. The name is required; other fields that are left out stay as they are."""

    name: Name


class GroupCreate(GroupWrite):
    """A new group."""

    member_ids: list[Id] = Field([], max_length=MAX_IDS, description="ids of the contacts to add")


class MembersIn(RequestBody):
    """The contacts to add to the group or to remove from it."""

    contact_ids: ContactIds


class _Group(BaseModel):
    id: int
    name: str
    description: str
    is_active: bool = Field(description="false: the group is deleted")
    member_count: int = Field(description="number of active members")


class GroupOut(Audit, _Group):
    """A group."""

    model_config = ConfigDict(from_attributes=True)


class GroupDetail(GroupOut):
    """A group with a page of its active members."""

    members: Paginated[ContactOut]


class MembersAdded(BaseModel):
    """The number of contacts that were added, and the number of active members now."""

    added: int
    member_count: int


class MembersRemoved(BaseModel):
    """The number of contacts that were removed, and the number of active members now."""

    removed: int
    member_count: int


class GroupState(BaseModel):
    """A group as scheduling needs it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    is_active: bool
