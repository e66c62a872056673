"""The tables of this service, the rows that its statements return, and the values of its status columns.

The migrations create the tables. A row has the columns of its statement in the same order, so that
`ContactRow._make(row)` works.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

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


class ImportStatus(StrEnum):
    """The state of an import."""

    # Its file is stored and waits for a worker.
    QUEUED = "queued"
    # A worker reads its file and renews its lease.
    RUNNING = "running"
    # Its contacts and its report were written in one transaction.
    DONE = "done"
    # Nothing of it was written.
    FAILED = "failed"


IMPORTS = "imports"  # the event that wakes the loops which run imports
OPT_OUTS = "opt_outs"  # the event that wakes the loop which applies opt-outs
# SQL conditions under which a loop of the worker has work.
WORK = {
    OPT_OUTS: "EXISTS (SELECT FROM opt_outs WHERE received_at > now() - interval '10 minutes')",
    IMPORTS: "EXISTS (SELECT FROM imports WHERE status = 'queued' OR (status = 'running' AND lease_until < now()))",
}

CONTACT_OPT_OUT_SOURCES = (OptOutSource.MANUAL, OptOutSource.REPLY, OptOutSource.PROVIDER)
NUMBER_OPT_OUT_SOURCES = (OptOutSource.REPLY, OptOutSource.PROVIDER, OptOutSource.CONFIRMED)


class Role(StrEnum):
    """The roles that every organisation of Clerk has. An organisation can define others, so a role's type is text."""

    # May change the organisation's settings.
    ADMIN = "admin"
    MEMBER = "member"


_TIME = DateTime(timezone=True)


def _columns(**types: Any) -> list[Column[Any]]:
    return [Column(name, kind) for name, kind in types.items()]


_AUDIT = {"created_by": BigInteger, "updated_by": BigInteger, "created_at": _TIME, "updated_at": _TIME}
# Clerk's own times, and when a row was written here. The migration explains them.
_CLERK_TIMES = {
    "source_created_at": _TIME,
    "source_updated_at": _TIME,
    "deleted_at": _TIME,
    "is_active": Boolean,
    "created_at": _TIME,
    "updated_at": _TIME,
}

contacts = Table(
    "contacts",
    metadata,
    *_columns(
        id=BigInteger,
        organisation_id=Text,
        first_name=Text,
        last_name=Text,
        phone=Text,
        email=Text,
        company=Text,
        user_id=BigInteger,
        is_active=Boolean,
        opt_out=Boolean,
        opted_out_at=_TIME,
        opt_out_source=Text,
        opt_out_message_id=BigInteger,
        opt_in_confirmed_at=_TIME,
        version=BigInteger,
        **_AUDIT,
    ),
)
groups = Table(
    "groups",
    metadata,
    *_columns(id=BigInteger, name=Text, description=Text, is_active=Boolean, **_AUDIT),
)
group_members = Table(
    "group_members",
    metadata,
    *_columns(group_id=BigInteger, contact_id=BigInteger, joined_at=_TIME),
)
organisations = Table(
    "organisations",
    metadata,
    *_columns(organisation_id=Text, name=Text, slug=Text, version=BigInteger, **_CLERK_TIMES),
)
users = Table(
    "users",
    metadata,
    *_columns(id=BigInteger, clerk_id=Text, first_name=Text, last_name=Text, email=Text, **_CLERK_TIMES),
)
memberships = Table(
    "memberships",
    metadata,
    *_columns(organisation_id=Text, user_id=BigInteger, role=Text, **_CLERK_TIMES),
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
    """The result of one row of an import. `row` is its position in its batch, from 1.

    `contact_id` is None when the row was refused, because its phone belongs to another contact or, with `is_repeated`,
    was written by an earlier row of the same file. `was_active` is None for a new contact.
    """

    row: int
    contact_id: int | None
    opt_out: bool | None
    was_active: bool | None
    is_repeated: bool | None


class ImportRow(NamedTuple):
    """An import as it is shown. The report has the first errors only."""

    id: int
    status: str
    rows_read: int
    rows_total: int | None
    report: dict[str, Any] | None
    more_errors: list[dict[str, Any]] | None
    error: str | None
    file_name: str
    dry_run: bool
    created_at: datetime


class ClaimedImport(NamedTuple):
    """An import that a worker runs. It is the worker's as long as `tries` is unchanged."""

    organisation_id: str
    id: int
    tries: int
    created_by: int | None
    request_id: str
    dry_run: bool
    group_id: int | None
    update_existing: bool


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
    """A group as scheduling needs it."""

    id: int
    name: str
    is_active: bool


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


class FoundMember(NamedTuple):
    """A user who is or was a member of an organisation."""

    user_id: int
    is_active: bool


class ListedOrganisation(NamedTuple):
    """An organisation as operators see it, with the number of its active members."""

    organisation_id: str
    name: str
    slug: str
    is_active: bool
    members: int
    created_at: datetime
    closed_at: datetime | None


class IdentityRow(NamedTuple):
    """The user's id, and whether user, organisation and membership are active. None means that the row is missing."""

    user_id: int | None
    user_is_active: bool | None
    organisation_is_active: bool | None
    membership_is_active: bool | None


class OperatorActionRow(NamedTuple):
    """An action of an operator. Without an end, it is under way or was killed. `id` is that of its first row."""

    id: int
    action_id: UUID
    begun_at: datetime
    ended_at: datetime | None
    action: str
    operator: str
    reason: str
    arguments: dict[str, Any]
    organisation_id: str | None
    outcome: str | None
    exit_code: int | None
