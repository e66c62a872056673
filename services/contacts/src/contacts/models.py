"""The tables of this service, the rows that its statements return, and the values of its status columns."""

from enum import StrEnum
from typing import Any

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


_AUDIT = ("created_by", "updated_by")


def _audit() -> list[Column[Any]]:
    return [
        *(Column(name, BigInteger) for name in _AUDIT),
        Column("created_at", DateTime(timezone=True)),
        Column("updated_at", DateTime(timezone=True)),
    ]


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
    Column("opted_out_at", DateTime(timezone=True)),
    Column("opt_out_source", Text),
    Column("opt_out_message_id", BigInteger),
    Column("opt_in_confirmed_at", DateTime(timezone=True)),
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
    Column("joined_at", DateTime(timezone=True)),
)


def _source() -> list[Column[Any]]:
    """What Clerk says has Clerk's times: see the migration."""
    moments = ("source_created_at", "source_updated_at", "deleted_at", "created_at", "updated_at")
    return [*(Column(name, DateTime(timezone=True)) for name in moments), Column("is_active", Boolean)]


organisations = Table(
    "organisations",
    metadata,
    Column("organisation_id", Text),
    Column("name", Text),
    Column("slug", Text),
    Column("version", BigInteger),
    *_source(),
)

users = Table(
    "users",
    metadata,
    Column("id", BigInteger),
    Column("clerk_id", Text),
    Column("first_name", Text),
    Column("last_name", Text),
    Column("email", Text),
    *_source(),
)

memberships = Table(
    "memberships",
    metadata,
    Column("organisation_id", Text),
    Column("user_id", BigInteger),
    Column("role", Text),
    *_source(),
)
