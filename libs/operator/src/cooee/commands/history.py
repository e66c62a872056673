"""The command `history`: what happened to one message, in all services."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from contacts.operator_actions.rules import mask_phones
from cooee.arguments import add_privacy, read_positive
from cooee.command import Command, Report
from cooee.commands.history_lines import history_lines
from cooee.commands.providers import look_up
from cooee.errors import ExitCode, NotFound
from cooee.output import mask
from cooee.stack import Stack
from delivery.models import COUNTS_AGAINST_LIMIT

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
    SELECT (SELECT opted_out FROM opt_outs WHERE organisation_id = :organisation AND phone = :phone)
           OR EXISTS (SELECT FROM erased_opt_outs WHERE organisation_id = :organisation
                      AND phone_hash = erased_phone_hash(:organisation, :phone)) AS phone_opted_out,
           (SELECT bool_or(opt_out) FROM contact_opt_outs
            WHERE organisation_id = :organisation AND (contact_id = :contact OR phone = :phone)) AS contact_opted_out,
           (SELECT closed FROM organisations WHERE organisation_id = :organisation) AS closed
"""
_CONTACT = "SELECT is_active, opt_out, opt_out_source, opted_out_at, version FROM contacts WHERE id = :id"


_NO_ANSWER = {"not_configured", "no_answer"}


async def history(stack: Stack, options: argparse.Namespace) -> Report:
    """Show the history of a message, by delivery's id or by its schedule's.

    With --ask the exit code is 3 when the provider does not answer or is not configured. The history is then
    shown without its answer.
    """
    messages, schedule = await _find(stack, options)
    schedule_id = schedule.id if schedule else messages[0].schedule_id
    answers = [
        {"message_id": row.id, "provider": row.provider, **await look_up(stack, row.provider, row.provider_message_id)}
        for row in messages
        if options.ask and row.provider_message_id
    ]
    document = {
        "schedule": await _describe_schedule(stack, schedule, options) if schedule else None,
        "events_in_outbox": await _read_outboxes(stack, schedule_id) if schedule_id else [],
        "messages": [await _describe_message(stack, row, options) for row in messages],
        "webhook_events": await _read(stack, _WEBHOOK_EVENTS, ids=[row.id for row in messages]),
        "inbound_messages": await _read_inbound(stack, schedule_id, options) if schedule_id else [],
        "provider_answers": answers,
        **await _describe_recipient(stack, schedule or messages[0]),
    }
    unanswered = any(answer["answer"] in _NO_ANSWER for answer in answers)
    return Report(document, list(history_lines(document)), ExitCode.UNREACHABLE if unanswered else ExitCode.OK)


async def _find(stack: Stack, options: argparse.Namespace) -> tuple[Sequence[Row[Any]], Row[Any] | None]:
    """Return the messages of all dispatches, and the schedule. An auto-reply has none. Raises NotFound."""
    messages = await stack.rows("delivery", _MESSAGES, message=options.id, schedule=options.schedule)
    schedule_id = options.schedule or next((row.schedule_id for row in messages), None)
    if options.id and schedule_id:
        messages = await stack.rows("delivery", _MESSAGES, message=None, schedule=schedule_id)
    schedules = await stack.rows("scheduling", _SCHEDULE, id=schedule_id) if schedule_id else []
    if not messages and not schedules:
        raise NotFound("no service has a message with this id")
    return messages, schedules[0] if schedules else None


async def _read(stack: Stack, statement: str, **parameters: Any) -> list[dict[str, Any]]:
    return [row._asdict() for row in await stack.rows("delivery", statement, **parameters)]


async def _describe_schedule(stack: Stack, row: Row[Any], options: argparse.Namespace) -> dict[str, Any]:
    names = (
        *("id", "kind", "status", "organisation_id", "contact_id", "batch_id", "group_id", "format", "created_at"),
        *("created_by", "scheduled_time", "dispatch_number", "provider", "attempts", "sent_time", "delivered_time"),
        *("failure_category", "error", "updated_at", "sweep_count", "request_id"),
    )
    states = await stack.rows("scheduling", _SWEEP, id=row.id)
    return {
        **_pick(row, names),
        **_private(row, options),
        "has_media": bool(row.media_url),
        **(states[0]._asdict() if states else {"sweep_at": None, "outcome_version": None}),
    }


def _pick(row: Row[Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def _private(row: Row[Any], options: argparse.Namespace) -> dict[str, Any]:
    # A provider may name the phone in its words.
    error = row.error if options.show_phones or not row.error else mask_phones(row.error)
    return {
        "phone": mask(row.phone, options.show_phones),
        "text": row.text if options.show_texts else None,
        "error": error,
    }


async def _read_outboxes(stack: Stack, schedule_id: int) -> list[dict[str, Any]]:
    """Return the events about the schedule that wait in an outbox."""
    return [
        {"service": service, "topic": row.topic, "created_at": row.created_at}
        for service in ("scheduling", "delivery")
        for row in await stack.rows(service, _OUTBOX, key=str(schedule_id))
    ]


async def _describe_message(stack: Stack, row: Row[Any], options: argparse.Namespace) -> dict[str, Any]:
    names = (
        *("id", "schedule_id", "dispatch_number", "auto_reply_to", "status", "organisation_id", "sender_id", "format"),
        *("created_at", "parts", "lane", "deadline", "provider", "provider_message_id", "provider_status", "attempts"),
        *("next_attempt_at", "sent_time", "billed_parts", "delivered_time", "failure_category", "error", "request_id"),
    )
    submission = {"key": row.submission_key, **_pick(row, ("tries", "tried_at", "due_at", "give_up_at"))}
    state = {"state": row.submission_state or "complete"}
    return {
        **_pick(row, names),
        **_private(row, options),
        "submission": submission | state if row.submission_key else None,
        "usage": await _describe_usage(stack, row),
    }


async def _describe_usage(stack: Stack, row: Row[Any]) -> Mapping[str, Any] | None:
    """Return whether the message counts against the limit, and what is used of the limit."""
    keeps = row.status in COUNTS_AGAINST_LIMIT
    counts = keeps or row.sent_time is not None or row.failure_category == "outcome_unknown"
    quota = {"organisation": row.organisation_id, "period": row.period, "format": row.format}
    for total in await stack.rows("delivery", _USAGE, **quota):
        month = f"{row.period:%Y-%m}"
        return {"counted": counts, "month": month, "used": total.usage, "limit": total.monthly_limit}
    return None


async def _read_inbound(stack: Stack, schedule_id: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = await _read(stack, _INBOUND, schedule=schedule_id)
    return [row | {"text": row["text"] if options.show_texts else None} for row in rows]


async def _describe_recipient(stack: Stack, about: Row[Any]) -> dict[str, Any]:
    """Return whether a message to this recipient would be refused today, and the contact."""
    parameters = {"organisation": about.organisation_id, "phone": about.phone, "contact": about.contact_id}
    (today,) = await _read(stack, _RECIPIENT, **parameters)
    contacts = await stack.rows("contacts", _CONTACT, id=about.contact_id) if about.contact_id else []
    recipient = {name: bool(value) for name, value in today.items()}
    contact = {"id": about.contact_id, **contacts[0]._asdict()} if contacts else None
    return {"recipient": recipient, "contact": contact}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("id", type=read_positive, nargs="?", help="delivery's id of the message")
    which.add_argument("--schedule", type=read_positive, help="the id of the schedule in the API")
    parser.add_argument("--ask", action="store_true", help="ask the provider for the present status, too")
    add_privacy(parser)


COMMAND = Command("history", "show the whole history of one message", history, _add_arguments)
