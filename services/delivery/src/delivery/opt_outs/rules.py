"""Opt-outs by number: of all changes to a number the newest counts, in whatever order they arrive."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, NamedTuple

Source = Literal["reply", "provider", "confirmed"]
Number = tuple[str, str]  # organisation and phone (E.164)

# Whether there is any erased opt-out. PostgreSQL finds it out once for a statement. Because of the order it reads one
# row of the index, also in a tenant session and among many rows of other organisations.
ANY_ERASED = "coalesce((SELECT true FROM erased_opt_outs ORDER BY organisation_id, phone_hash LIMIT 1), false)"
# The row e of the erased opt-outs is that of {m}, a row with an organisation and a phone.
IS_ERASED = (
    "e.organisation_id = {m}.organisation_id AND e.phone_hash = erased_phone_hash({m}.organisation_id, {m}.phone)"
)
# The one condition "this recipient opted out", for a row {m} with an organisation, a phone and a contact or none: the
# contact opted out, another contact with the phone did, or the phone itself did, maybe before it was erased. These are
# scalar subqueries because PostgreSQL may plan EXISTS as a hash of the whole table.
RECIPIENT_OPTED_OUT = f"""
    coalesce(
        (SELECT true FROM contact_opt_outs c
         WHERE c.organisation_id = {{m}}.organisation_id AND c.contact_id = {{m}}.contact_id AND c.opt_out),
        (SELECT true FROM contact_opt_outs c
         WHERE c.organisation_id = {{m}}.organisation_id AND c.phone = {{m}}.phone AND c.opt_out LIMIT 1),
        (SELECT true FROM opt_outs o
         WHERE o.organisation_id = {{m}}.organisation_id AND o.phone = {{m}}.phone AND o.opted_out),
        CASE WHEN {ANY_ERASED} THEN
            (SELECT true FROM erased_opt_outs e WHERE {IS_ERASED}) END,
        false)
"""  # noqa: S608  # constants
# The message {m} must not be sent. Our auto-reply to STOP or HELP goes to opted-out numbers too.
REFUSES_RECIPIENT = f"{{m}}.auto_reply_to IS NULL AND {RECIPIENT_OPTED_OUT}"
# The recipient of the message {m} opted out by a keyword that reached us through the message's own provider. A provider
# that handles opt-outs itself then refuses the message, too.
OPTED_OUT_AT_PROVIDER = """
    coalesce(
        (SELECT true FROM opt_outs o JOIN inbound_messages i ON i.id = o.message_id
         WHERE o.organisation_id = {m}.organisation_id AND o.phone = {m}.phone AND o.opted_out
           AND i.provider = {m}.provider), false)
"""


@dataclass(frozen=True, slots=True)
class OptOutChange:
    """A person or a provider opts a number out (`opted_out`) or back in, at the time `at`.

    `phone` is E.164. `message_id` is the inbound message with the keyword, if there was one.
    """

    organisation_id: str
    phone: str
    opted_out: bool
    at: datetime
    source: Source
    message_id: int | None = None
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class OptOutState:
    """Whether a number is opted out, and the time of the newest change. `changed_by` is the change that took effect.

    `is_erased`: the opt-out has a hash instead of the phone.
    """

    opted_out: bool
    at: datetime
    changed_by: OptOutChange | None = None
    is_erased: bool = False


class OptOutRow(NamedTuple):
    """A row of the table `opt_outs`."""

    organisation_id: str
    phone: str
    opted_out: bool
    changed_at: datetime
    source: Source
    message_id: int | None
    version: int


class ErasedOptOut(NamedTuple):
    """An opt-out whose phone was erased, without the hash."""

    organisation_id: str
    changed_at: datetime
    source: Source
    version: int


def apply_changes(state: OptOutState, changes: Iterable[OptOutChange]) -> tuple[OptOutState, list[OptOutChange]]:
    """Return the state after these changes of one number, and the changes that took effect.

    Providers' clocks count seconds. Of two changes at the same second, the one that arrived later counts.
    """
    effective = []
    for change in sorted(changes, key=lambda change: change.at):
        if change.at < state.at:
            continue
        if change.opted_out == state.opted_out:
            state = replace(state, at=change.at)
        else:
            effective.append(change)
            state = OptOutState(change.opted_out, change.at, change)
    return state, effective
