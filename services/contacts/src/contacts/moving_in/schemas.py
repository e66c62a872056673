"""Rows of an earlier system as contacts imports them. Phones are E.164, texts are cleaned, times are aware."""

from datetime import date, datetime
from typing import NamedTuple


class ContactIn(NamedTuple):
    """A contact of an earlier system. `month` is that of its creation."""

    old_id: int
    organisation_id: str
    month: date
    first_name: str
    last_name: str
    phone: str
    email: str
    company: str
    user_id: int | None
    is_active: bool
    opt_out: bool
    opted_out_at: datetime | None
    created_by: int | None
    updated_by: int | None
    created_at: datetime
    updated_at: datetime


class GroupIn(NamedTuple):
    """A group of an earlier system."""

    old_id: int
    organisation_id: str
    month: date
    name: str
    description: str
    is_active: bool
    created_by: int | None
    updated_by: int | None
    created_at: datetime
    updated_at: datetime


class MemberIn(NamedTuple):
    """A membership of an earlier system, with the ids that its group and its contact have here."""

    old_id: int
    organisation_id: str
    group_id: int
    contact_id: int


class UserIn(NamedTuple):
    """A user of an earlier system."""

    clerk_id: str
    first_name: str
    last_name: str
    email: str


class MovedContact(NamedTuple):
    """The contact that a row became, as far as a message needs it."""

    contact_id: int
    version: int
    phone: str
    first_name: str
    last_name: str
    company: str
