"""The command `message`: the history of one message in all services."""

import argparse
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from delivery.models import COUNTS_AGAINST_LIMIT
from tools.operator.providers import look_up
from tools.operator.stack import OperatorError, Stack, mask, show_time

_SCHEDULE = "SELECT * FROM shown_schedules WHERE id = :id"
_SWEEP = "SELECT sweep_at, outcome_version FROM schedules WHERE id = :id"
_OUTBOX = "SELECT id, topic, created_at FROM outbox WHERE key = :key ORDER BY id"
_MESSAGES = """
    SELECT m.*, s.state AS submission_state, s.tries, s.tried_at, s.due_at, s.give_up_at
    FROM messages m LEFT JOIN submissions s ON s.key = m.submission_key
    WHERE m.id = CAST(:message AS bigint) OR m.schedule_id = CAST(:schedule AS bigint)
    ORDER BY m.dispatch_number, m.id
"""
_WEBHOOK_EVENTS = """
    SELECT kind, provider, received_at, checks, due_at FROM webhook_events
    WHERE message_id = ANY(:ids) OR reference = ANY(:ids) ORDER BY received_at, id
"""
_INBOUND = """
    SELECT id, received_at, keyword, text FROM inbound_messages WHERE schedule_id = :schedule ORDER BY received_at, id
"""
_USAGE = """
    SELECT u.usage, (SELECT value FROM configs c WHERE c.organisation_id = u.organisation_id
                     AND c.name = u.format || '_limit') AS monthly_limit
    FROM limit_usage u WHERE u.organisation_id = :organisation AND u.period = :period AND u.format = :format
"""
_RECIPIENT = """
    SELECT (SELECT opted_out FROM opt_outs WHERE organisation_id = :organisation AND phone = :phone) AS phone_opted_out,
           (SELECT bool_or(opt_out) FROM contact_opt_outs
            WHERE organisation_id = :organisation AND (contact_id = :contact OR phone = :phone)) AS contact_opted_out,
           (SELECT closed FROM organisations WHERE organisation_id = :organisation) AS closed
"""
_CONTACT = "SELECT is_active, opt_out, opt_out_source, opted_out_at, version FROM contacts WHERE id = :id"


async def message(stack: Stack, options: argparse.Namespace) -> int:
    """Show the history of a message, by delivery's id or by its schedule's. Phones and texts only with --reveal."""
    messages = await stack.rows("delivery", _MESSAGES, message=options.id, schedule=options.schedule)
    schedule_id = options.schedule or next((row.schedule_id for row in messages), None)
    if options.id and schedule_id:
        messages = await stack.rows("delivery", _MESSAGES, message=None, schedule=schedule_id)
    schedules = await stack.rows("scheduling", _SCHEDULE, id=schedule_id) if schedule_id else []
    if not messages and not schedules:
        raise OperatorError("no service has a message with this id")
    for row in schedules:
        await _show_schedule(stack, row, options.reveal)
    if schedule_id:
        await _show_outboxes(stack, schedule_id)
    for row in messages:
        await _show_message(stack, row, options.reveal)
    await _show_webhook_events(stack, messages)
    if schedule_id:
        await _show_inbound(stack, schedule_id, options.reveal)
    await _ask_providers(stack, messages if options.ask else ())
    if not messages:
        print("delivery: has no message of this schedule so far")
    await _show_recipient(stack, schedules[0] if schedules else messages[0])
    return 0


def _line(name: str, *values: object) -> None:
    print(f"  {name:<13}{' '.join(str(value) for value in values if value not in (None, ''))}")


async def _show_schedule(stack: Stack, row: Row[Any], reveal: bool) -> None:
    print(f"scheduling: schedule {row.id}, {row.kind}, {row.status}")
    _line("organisation", row.organisation_id)
    _line("recipient", mask(row.phone, reveal), f"contact {row.contact_id}" if row.contact_id else "")
    if row.batch_id:
        _line("batch", row.batch_id, f"of group {row.group_id}")
    _line("format", row.format, "with media" if row.media_url else "")
    if reveal:
        _line("text", repr(row.text))
    _line("created", show_time(row.created_at), f"by user {row.created_by}" if row.created_by else "")
    _line("scheduled", show_time(row.scheduled_time), f"dispatch {row.dispatch_number}")
    _line("sent", show_time(row.sent_time), f"by {row.provider}, attempts {row.attempts}" if row.provider else "")
    _line("delivered", show_time(row.delivered_time))
    if row.error:
        _line("error", f"{row.failure_category}:", row.error)
    for state in await stack.rows("scheduling", _SWEEP, id=row.id):
        next_sweep = f"next {show_time(state.sweep_at)}"
        sweeps = f"delivery asked {row.sweep_count} times, {next_sweep}" if state.sweep_at else ""
        _line("changed", show_time(row.updated_at), f"outcome version {state.outcome_version}", sweeps)
    _line("request", row.request_id)


async def _show_outboxes(stack: Stack, schedule_id: int) -> None:
    """Show the events about the schedule that are not published so far."""
    for service in ("scheduling", "delivery"):
        for row in await stack.rows(service, _OUTBOX, key=str(schedule_id)):
            print(f"{service}: event {row.topic} is in the outbox since {show_time(row.created_at)}")


async def _show_message(stack: Stack, row: Row[Any], reveal: bool) -> None:
    dispatch = f"dispatch {row.dispatch_number} of schedule {row.schedule_id}"
    subject = f"auto-reply to inbound message {row.auto_reply_to}" if row.auto_reply_to else dispatch
    print(f"delivery: message {row.id}, {row.status}, {subject}")
    _line("organisation", row.organisation_id)
    _line("recipient", mask(row.phone, reveal), f"from {row.sender_id}" if row.sender_id else "")
    if reveal:
        _line("text", repr(row.text))
    _line("added", show_time(row.created_at), f"{row.parts} parts, {row.lane}, deadline {show_time(row.deadline)}")
    _line("provider", row.provider or "-", row.provider_message_id, row.provider_status)
    _line("attempts", row.attempts, f"next {show_time(row.next_attempt_at)}" if row.next_attempt_at else "")
    if row.submission_key:
        _line("submission", row.submission_key, _submission(row))
    _line("sent", show_time(row.sent_time), f"billed {row.billed_parts} parts" if row.billed_parts else "")
    _line("delivered", show_time(row.delivered_time))
    if row.error:
        _line("error", f"{row.failure_category}:", row.error)
    await _show_usage(stack, row)
    _line("request", row.request_id)


def _submission(row: Row[Any]) -> str:
    if not row.submission_state:
        return "complete"
    times = f"due {show_time(row.due_at)}, given up {show_time(row.give_up_at)}"
    return f"{row.submission_state}, try {row.tries} at {show_time(row.tried_at)}, {times}"


async def _show_usage(stack: Stack, row: Row[Any]) -> None:
    """Show whether the message counts against the limit, and what is used of the limit."""
    keeps = row.status in COUNTS_AGAINST_LIMIT
    counts = keeps or row.sent_time is not None or row.failure_category == "outcome_unknown"
    quota = {"organisation": row.organisation_id, "period": row.period, "format": row.format}
    for total in await stack.rows("delivery", _USAGE, **quota):
        used = f"{total.usage} used of {total.monthly_limit or 'no limit'} in {row.period:%Y-%m}"
        _line("usage", "counted," if counts else "returned,", used)


async def _show_webhook_events(stack: Stack, messages: Sequence[Row[Any]]) -> None:
    for row in await stack.rows("delivery", _WEBHOOK_EVENTS, ids=[row.id for row in messages]):
        state = f"due {show_time(row.due_at)}, checked {row.checks} times" if row.due_at else "complete"
        print(f"delivery: {row.kind} of {row.provider} at {show_time(row.received_at)}, {state}")


async def _show_inbound(stack: Stack, schedule_id: int, reveal: bool) -> None:
    for row in await stack.rows("delivery", _INBOUND, schedule=schedule_id):
        content = f": {row.text!r}" if reveal else f" ({row.keyword or 'no keyword'})"
        print(f"delivery: inbound message {row.id} at {show_time(row.received_at)}{content}")


async def _ask_providers(stack: Stack, messages: Sequence[Row[Any]]) -> None:
    """Show the present status of accepted messages at their providers."""
    for row in messages:
        if row.provider_message_id:
            print(f"today: {await look_up(stack, row.provider, row.provider_message_id)}")


async def _show_recipient(stack: Stack, about: Row[Any]) -> None:
    """Show whether a message to this recipient would be refused today."""
    parameters = {"organisation": about.organisation_id, "phone": about.phone, "contact": about.contact_id}
    for row in await stack.rows("delivery", _RECIPIENT, **parameters):
        reasons = {
            "the phone is opted out": row.phone_opted_out,
            "a contact with this phone is opted out": row.contact_opted_out,
            "the organisation is closed": row.closed,
        }
        applying = [reason for reason, applies in reasons.items() if applies]
        print(f"today: {', '.join(applying) or 'no opt-out'}, at delivery")
    if about.contact_id:
        for row in await stack.rows("contacts", _CONTACT, id=about.contact_id):
            since = f"opted out since {show_time(row.opted_out_at)} ({row.opt_out_source})"
            state = "active" if row.is_active else "deleted"
            print(f"contacts: contact {about.contact_id}, {state}, {since if row.opt_out else 'not opted out'}")
