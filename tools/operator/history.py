"""What became of one message: its whole history over the services."""

import argparse
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from tools.operator.providers import look_up
from tools.operator.stack import OperatorError, Stack, mask, show_time

_SCHEDULE = "SELECT * FROM shown_schedules WHERE id = :id"
_SWEEP = "SELECT sweep_at, outcome_version FROM schedules WHERE id = :id"
_WAITING = "SELECT id, topic, created_at FROM outbox WHERE key = :key ORDER BY id"
_MESSAGES = """
    SELECT m.*, c.state AS call_state, c.requests AS call_count, c.requested_at, c.due_at, c.ends_at
    FROM messages m LEFT JOIN calls c ON c.key = m.call_key
    WHERE m.id = CAST(:message AS bigint) OR m.schedule_id = CAST(:schedule AS bigint) ORDER BY m.run, m.id
"""
_NOTICES = """
    SELECT kind, provider, received_at, looks, due_at FROM notices
    WHERE message_id = ANY(:ids) OR reference = ANY(:ids) ORDER BY received_at, id
"""
_ANSWERS = """
    SELECT id, received_at, keyword, text FROM inbound_messages WHERE schedule_id = :schedule ORDER BY received_at, id
"""
_PLACE = """
    SELECT l.taken, (SELECT value FROM configs c WHERE c.organisation_id = l.organisation_id
                     AND c.name = l.format || '_limit') AS allowed
    FROM limits l WHERE l.organisation_id = :organisation AND l.period = :period AND l.format = :format
"""
_STANDING = """
    SELECT (SELECT stopped FROM stops WHERE organisation_id = :organisation AND phone = :phone) AS stopped,
           (SELECT bool_or(opt_out) FROM contact_opt_outs
            WHERE organisation_id = :organisation AND (contact_id = :contact OR phone = :phone)) AS opted_out,
           (SELECT closed FROM organisations WHERE organisation_id = :organisation) AS closed
"""
_CONTACT = "SELECT is_active, opt_out, opt_out_source, opted_out_at, version FROM contacts WHERE id = :id"


async def message(stack: Stack, options: argparse.Namespace) -> int:
    """The history of a message, by delivery's id or by its schedule's. Phone and texts only with --reveal."""
    given = {"message": options.id, "schedule": options.schedule}
    messages = await stack.rows("delivery", _MESSAGES, **given)
    schedule_id = options.schedule or next((row.schedule_id for row in messages), None)
    if options.id and schedule_id:
        messages = await stack.rows("delivery", _MESSAGES, message=None, schedule=schedule_id)
    schedules = await stack.rows("scheduling", _SCHEDULE, id=schedule_id) if schedule_id else []
    if not messages and not schedules:
        raise OperatorError("no service knows it")
    for row in schedules:
        await _tell_schedule(stack, row, options.reveal)
    if schedule_id:
        await _tell_waiting(stack, schedule_id)
    for row in messages:
        await _tell_message(stack, row, options.reveal)
    await _tell_notices(stack, messages, schedule_id, options.reveal)
    await _ask(stack, messages if options.ask else ())
    if not messages:
        print("delivery: knows nothing of it yet")
    about = schedules[0] if schedules else messages[0]
    await _tell_recipient(stack, about)
    return 0


def _line(name: str, *told: object) -> None:
    print(f"  {name:<13}{' '.join(str(part) for part in told if part not in (None, ''))}")


async def _tell_schedule(stack: Stack, row: Row[Any], reveal: bool) -> None:
    print(f"scheduling: schedule {row.id}, {row.kind}, {row.status}")
    _line("organisation", row.organisation_id)
    _line("recipient", mask(row.phone, reveal), f"contact {row.contact_id}" if row.contact_id else "")
    if row.parent_id:
        _line("batch", row.parent_id, f"of group {row.group_id}")
    _line("format", row.format, "with media" if row.media_url else "")
    if reveal:
        _line("text", repr(row.text))
    _line("created", show_time(row.created_at), f"by user {row.created_by}" if row.created_by else "")
    _line("scheduled", show_time(row.scheduled_time), f"run {row.run}")
    _line("sent", show_time(row.sent_time), f"by {row.provider}, attempts {row.attempts}" if row.provider else "")
    _line("delivered", show_time(row.delivered_time))
    if row.error:
        _line("error", f"{row.failure_category}:", row.error)
    for state in await stack.rows("scheduling", _SWEEP, id=row.id):
        asked = f"delivery asked {row.swept} times, next {show_time(state.sweep_at)}" if state.sweep_at else ""
        _line("changed", show_time(row.updated_at), f"outcome {state.outcome_version}", asked)
    _line("request", row.request_id)


async def _tell_waiting(stack: Stack, schedule_id: int) -> None:
    """The events about it that are not on the bus yet."""
    for service in ("scheduling", "delivery"):
        for row in await stack.rows(service, _WAITING, key=str(schedule_id)):
            print(f"{service}: event {row.topic} waits in the outbox since {show_time(row.created_at)}")


async def _tell_message(stack: Stack, row: Row[Any], reveal: bool) -> None:
    what = f"answers inbound {row.answers}" if row.answers else f"run {row.run} of schedule {row.schedule_id}"
    print(f"delivery: message {row.id}, {row.status}, {what}")
    _line("organisation", row.organisation_id)
    _line("recipient", mask(row.phone, reveal), f"from {row.sender}" if row.sender else "")
    if reveal:
        _line("text", repr(row.text))
    _line("taken in", show_time(row.created_at), f"{row.units} units, {row.lane}, until {show_time(row.deadline)}")
    _line("provider", row.provider or "-", row.provider_message_id, row.provider_status)
    _line("attempts", row.attempts, f"next {show_time(row.next_attempt_at)}" if row.next_attempt_at else "")
    if row.call_key:
        still = (
            f"{row.call_state}, request {row.call_count} at {show_time(row.requested_at)},"
            f" looked at {show_time(row.due_at)}, ends {show_time(row.ends_at)}"
        )
        _line("call", row.call_key, still if row.call_state else "settled")
    _line("sent", show_time(row.sent_time), f"billed {row.billed_parts} parts" if row.billed_parts else "")
    _line("delivered", show_time(row.delivered_time))
    if row.error:
        _line("error", f"{row.category}:", row.error)
    given = {"organisation": row.organisation_id, "period": row.period, "format": row.format}
    for place in await stack.rows("delivery", _PLACE, **given):
        kept = row.status != "failed" or row.category == "outcome_unknown" or row.sent_time is not None
        of = f"{place.taken} taken of {place.allowed or 'no limit'} in {row.period:%Y-%m}"
        _line("place", "kept," if kept else "given back,", of)
    _line("request", row.request_id)


async def _tell_notices(stack: Stack, messages: Sequence[Row[Any]], schedule_id: int | None, reveal: bool) -> None:
    ids = [row.id for row in messages]
    for row in await stack.rows("delivery", _NOTICES, ids=ids):
        state = f"due {show_time(row.due_at)}, looked at {row.looks} times" if row.due_at else "dealt with"
        print(f"delivery: {row.kind} of {row.provider} at {show_time(row.received_at)}, {state}")
    if schedule_id:
        for row in await stack.rows("delivery", _ANSWERS, schedule=schedule_id):
            said = f": {row.text!r}" if reveal else f" ({row.keyword or 'a text'})"
            print(f"delivery: answer {row.id} at {show_time(row.received_at)}{said}")


async def _ask(stack: Stack, messages: Sequence[Row[Any]]) -> None:
    """What the providers say today of the messages that they took."""
    for row in messages:
        if row.provider_message_id:
            print(f"today: {await look_up(stack, row.provider, row.provider_message_id)}")


async def _tell_recipient(stack: Stack, about: Row[Any]) -> None:
    """Why a message to this recipient would be refused today."""
    given = {"organisation": about.organisation_id, "phone": about.phone, "contact": about.contact_id}
    for row in await stack.rows("delivery", _STANDING, **given):
        words = [word for word, holds in (("stopped", row.stopped), ("opted out", row.opted_out)) if holds]
        words += ["in a closed organisation"] if row.closed else []
        print(f"today: the recipient is {', '.join(words) or 'neither stopped nor opted out'} at delivery")
    if about.contact_id:
        for row in await stack.rows("contacts", _CONTACT, id=about.contact_id):
            out = f"opted out {show_time(row.opted_out_at)} ({row.opt_out_source})" if row.opt_out else "not opted out"
            print(f"contacts: contact {about.contact_id}, {'active' if row.is_active else 'deleted'}, {out}")
