"""The tables of this service, the rows that its statements return, and the values of its status columns.

The migrations create the tables. A row has the columns of its statement in the same order, so that
`ContactRow._make(row)` works.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Boolean, Column, DateTime, MetaData, Table, Text

metadata = MetaData()


class OptOutSource(StrEnum):
    """The origin of an opt-out or an opt-in."""

    # A person set `opt_out` of a contact in the API.
    MANUAL = "manual"
    # The phone sent STOP or START.
    REPLY = "reply"
    # The provider refused the number, because its owner opted out there.
    PROVIDER = "provider"
    # The organisation confirmed that the person consented again.
    CONFIRMED = "confirmed"


CONTACT_OPT_OUT_SOURCES = (OptOutSource.MANUAL, OptOutSource.REPLY, OptOutSource.PROVIDER)
NUMBER_OPT_OUT_SOURCES = (OptOutSource.REPLY, OptOutSource.PROVIDER, OptOutSource.CONFIRMED)


class Role(StrEnum):
    """The roles that every organisation of Clerk has. An organisation can define others, so a role's type is text."""

    # May change the organisation's settings.
    ADMIN = "admin"
    MEMBER = "member"


def _timestamp(name: str) -> Column[Any]:
    return Column(name, DateTime(timezone=True))


def _audit() -> list[Column[Any]]:
    users = [Column(name, BigInteger) for name in ("created_by", "updated_by")]
    return [*users, _timestamp("created_at"), _timestamp("updated_at")]


contacts = Table(
    "contacts",
    metadata,
    Column("id", BigInteger),
    Column("organisation_id", Text),
    Column("first_name", Text),
    Column("last_name", Text),
    Column("phone", Text),
    Column("email", Text),
    Column("company", Text),
    Column("user_id", BigInteger),
    Column("is_active", Boolean),
    Column("opt_out", Boolean),
    _timestamp("opted_out_at"),
    Column("opt_out_source", Text),
    Column("opt_out_message_id", BigInteger),
    _timestamp("opt_in_confirmed_at"),
    Column("version", BigInteger),
    *_audit(),
)

groups = Table(
    "groups",
    metadata,
    Column("id", BigInteger),
    Column("name", Text),
    Column("description", Text),
    Column("is_active", Boolean),
    *_audit(),
)

group_members = Table(
    "group_members",
    metadata,
    Column("group_id", BigInteger),
    Column("contact_id", BigInteger),
    _timestamp("joined_at"),
)


def _clerk_times() -> list[Column[Any]]:
    """Return the columns with Clerk's own times. The migration explains them."""
    names = ("source_created_at", "source_updated_at", "deleted_at", "created_at", "updated_at")
    return [*(_timestamp(name) for name in names), Column("is_active", Boolean)]


organisations = Table(
    "organisations",
    metadata,
    Column("organisation_id", Text),
    Column("name", Text),
    Column("slug", Text),
    Column("version", BigInteger),
    *_clerk_times(),
)

users = Table(
    "users",
    metadata,
    Column("id", BigInteger),
    Column("clerk_id", Text),
    Column("first_name", Text),
    Column("last_name", Text),
    Column("email", Text),
    *_clerk_times(),
)

memberships = Table(
    "memberships",
    metadata,
    Column("organisation_id", Text),
    Column("user_id", BigInteger),
    Column("role", Text),
    *_clerk_times(),
)


class ContactRow(NamedTuple):
    """A contact, active or deleted."""

    id: int
    organisation_id: str
    first_name: str
    last_name: str
    phone: str
    email: str
    company: str
    user_id: int | None
    is_active: bool
    opt_out: bool
    opted_out_at: datetime | None
    opt_out_source: str | None
    opt_out_message_id: int | None
    opt_in_confirmed_at: datetime | None
    version: int
    created_by: int | None
    updated_by: int | None
    created_at: datetime
    updated_at: datetime


class NumberOptOut(NamedTuple):
    """The opt-out of a number: when and how it began, and the inbound message with STOP, if there was one."""

    changed_at: datetime
    source: str
    message_id: int | None


class ImportedRow(NamedTuple):
    """The result of one row of an import.

    `contact_id` is None when the row was refused, because its phone belongs to another contact or, with `is_repeated`,
    was written by an earlier row of the same file. `was_active` is None for a new contact.
    """

    row: int
    contact_id: int | None
    opt_out: bool | None
    was_active: bool | None
    is_repeated: bool | None


class GroupRow(NamedTuple):
    """A group with the number of its active members."""

    id: int
    name: str
    description: str
    is_active: bool
    created_by: int | None
    updated_by: int | None
    created_at: datetime
    updated_at: datetime
    member_count: int


class GroupStateRow(NamedTuple):
    """A group with the number of its members who may be messaged."""

    id: int
    name: str
    is_active: bool
    eligible_count: int


class UserRow(NamedTuple):
    """A user with the role in the session's organisation. Inactive is a user who left it or was deleted."""

    id: int
    first_name: str
    last_name: str
    email: str
    clerk_id: str
    role: str
    is_active: bool
    created_at: datetime
    updated_at: datetime


class OrganisationRow(NamedTuple):
    """An organisation. `version` counts how often it was closed or opened again."""

    organisation_id: str
    name: str
    slug: str
    version: int
    is_active: bool


class IdentityRow(NamedTuple):
    """The user's id, and whether user, organisation and membership are active. None means that the row is missing."""

    user_id: int | None
    user_is_active: bool | None
    organisation_is_active: bool | None
    membership_is_active: bool | None
