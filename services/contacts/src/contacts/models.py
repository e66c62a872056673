"""The tables of this schema, as far as statements are built from them (the migrations make them)."""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, DateTime, MetaData, Table, Text

metadata = MetaData()

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
