"""Places in the limits: pure rules (bus.md, Limits)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from common.phones import InvalidPhone, normalise_phone
from common.sms import measure
from delivery.settings import split_names

DEFAULT_ZONE = "Australia/Adelaide"
UNLIMITED = "unlimited"
LIMIT_NAMES = {"sms_limit": "sms", "mms_limit": "mms"}
ZONE_NAME = "timezone"
CHAIN_NAMES = {"sms_providers": "sms", "mms_providers": "mms"}
SENDER_NAME = "sender"
STOP_WORDS_OFF = "stop_words_off"
OPTIONAL_STOP_WORDS = frozenset({"CANCEL", "END"})
REPLY_NAMES = ("stop_reply", "start_reply", "help_reply")
_LONGEST_REPLY_PARTS = 4
_WHOLE_NUMBER = re.compile(r"[0-9]{1,15}")
_SENDER_ID = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9]{3,11}")


class Quota(NamedTuple):
    """What a limit applies to: an organisation's month (its first day) and a format."""

    organisation_id: str
    period: date
    format: str


@dataclass(frozen=True, slots=True)
class Demand:
    """Places that a message needs: parts of an SMS, 1 for an MMS; first from its hold, if it has one."""

    quota: Quota
    units: int
    hold: UUID | None = None


@dataclass(slots=True)
class Grants:
    """Which demands were granted, in order; what that adds to `taken`, and what it draws from holds."""

    granted: list[bool] = field(default_factory=list)
    taken: dict[Quota, int] = field(default_factory=dict)
    drawn: dict[UUID, int] = field(default_factory=dict)


def period_of(moment: datetime, zone: str) -> date:
    """The first day of the calendar month that a moment belongs to in a zone."""
    return moment.astimezone(ZoneInfo(zone)).date().replace(day=1)


def read_limit(value: str | None) -> int | None:
    """A limit from a config's value; None is no limit. What cannot be read was refused when it was written."""
    return int(value) if value is not None and _WHOLE_NUMBER.fullmatch(value) else None


@lru_cache(maxsize=16_384)  # the routes are read twice a second, and parsing a number is most of it
def read_sender(value: str) -> str | None:
    """A sender as providers take it: a mobile as E.164, or 3 to 11 letters and digits with a letter; else None."""
    if _SENDER_ID.fullmatch(value):
        return value
    try:
        return normalise_phone(value)
    except InvalidPhone:
        return None


def canonical_sender(value: str) -> str | None:
    """A sender as it is compared: a mobile as E.164, a name in small letters; None when it is neither."""
    sender = read_sender(value)
    return sender and sender.casefold()


def check_value(name: str, value: str, chains: Mapping[str, Sequence[str]]) -> str | None:
    """What is wrong with a config's value, None when nothing is. `chains`: format → the providers that are enabled."""
    if name in LIMIT_NAMES and value != UNLIMITED and not _WHOLE_NUMBER.fullmatch(value):
        return f"Enter a whole number, or {UNLIMITED}."
    if name == ZONE_NAME and value not in available_timezones():
        return "Enter the name of a time zone, for example Australia/Adelaide."
    if name == STOP_WORDS_OFF and not set(split_names(value.upper())) <= OPTIONAL_STOP_WORDS:
        return "Only CANCEL and END can be switched off; separate them by a comma."
    if name in REPLY_NAMES and (not value or measure(value).parts > _LONGEST_REPLY_PARTS):
        return f"Enter a text of at most {_LONGEST_REPLY_PARTS} parts, or off."
    if name in CHAIN_NAMES:
        enabled = chains[CHAIN_NAMES[name]]
        if not set(split_names(value)) <= set(enabled):
            return f"Enter names of providers, separated by commas. Enabled are: {', '.join(enabled)}."
    if name == SENDER_NAME and value and read_sender(value) is None:
        return "Enter an Australian mobile number, or 3 to 11 letters and digits with at least one letter."
    return None


def grant(
    demands: Sequence[Demand],
    taken: Mapping[Quota, int],
    limits: Mapping[tuple[str, str], int],
    holds: Mapping[UUID, tuple[Quota, int]],
) -> Grants:
    """Grants what fits, in order. A hold's units are in `taken` already; a demand that is larger takes the rest anew.

    `limits` is by (organisation, format); `holds` gives a hold's quota and the units left in it. A refused demand
    leaves its hold as it was.
    """
    grants = Grants()
    for demand in demands:
        quota = demand.quota
        held = 0
        if demand.hold is not None and demand.hold in holds and holds[demand.hold][0] == quota:
            held = min(demand.units, holds[demand.hold][1] - grants.drawn.get(demand.hold, 0))
        fresh = demand.units - held
        limit = limits.get((quota.organisation_id, quota.format))
        already = taken[quota] + grants.taken.get(quota, 0)
        fits = fresh == 0 or limit is None or already + fresh <= limit
        grants.granted.append(fits)
        if not fits:
            continue
        if fresh:
            grants.taken[quota] = grants.taken.get(quota, 0) + fresh
        if held and demand.hold is not None:
            grants.drawn[demand.hold] = grants.drawn.get(demand.hold, 0) + held
    return grants
