"""The commands `dead-letters`.

A dead letter is a record that a consumer could not read, or an event that was too large to transmit.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from cooee.arguments import add_privacy, read_positive
from cooee.command import Command, Group, Report
from cooee.errors import ExitCode, NotFound, Refused, WrongUsage
from cooee.output import is_or_are, quantity, show_age, show_time, table
from cooee.stack import STORES, Stack

_BATCH = 500
_SHOWN_IDS = 10
_CHOSEN = "(CAST(:topic AS text) IS NULL OR topic = :topic) AND (CAST(:ids AS bigint[]) IS NULL OR id = ANY(:ids))"
_LIST = f"SELECT * FROM dead_letters WHERE {_CHOSEN} ORDER BY id DESC LIMIT :limit"  # noqa: S608
_UNACKNOWLEDGED = f"SELECT count(*) AS number FROM dead_letters WHERE NOT acknowledged AND {_CHOSEN}"  # noqa: S608
# The relay stores an event that is too large to transmit with the partition -1.
_TOO_LARGE = f"SELECT id FROM dead_letters WHERE kafka_partition < 0 AND {_CHOSEN} ORDER BY id"  # noqa: S608
_DELETE = text(
    f"DELETE FROM dead_letters WHERE id = ANY(ARRAY(SELECT id FROM dead_letters WHERE {_CHOSEN} AND id <= :last"  # noqa: S608
    " AND kafka_partition >= 0 ORDER BY id LIMIT :limit FOR UPDATE)) RETURNING id, topic, key, body"
)
_RECORD = Columns(event_id="uuid", topic="text", key="text", body="bytea")
_PUBLISH = text(
    "INSERT INTO outbox (event_id, topic, key, body, request_id)"  # noqa: S608  # constants of this file
    f" SELECT event_id, topic, key, body, '' FROM {_RECORD.unnest('record')}"
)
_ACKNOWLEDGE = f"""
    WITH changed AS (UPDATE dead_letters SET acknowledged = true WHERE NOT acknowledged AND {_CHOSEN} RETURNING topic)
    SELECT topic, count(*) AS number FROM changed GROUP BY topic ORDER BY topic
"""  # noqa: S608


def _parameters(options: argparse.Namespace, **more: Any) -> dict[str, Any]:
    return {"topic": options.topic, "ids": options.id or None, **more}


async def list_dead_letters(stack: Stack, options: argparse.Namespace) -> Report:
    """List the newest dead letters of each service. The exit code is 1 when some are not acknowledged."""
    found, unacknowledged = [], 0
    for service in [options.service] if options.service else STORES:
        rows = await stack.rows(service, _LIST, **_parameters(options, limit=options.limit))
        found += [_describe(service, row) for row in rows]
        unacknowledged += (await stack.rows(service, _UNACKNOWLEDGED, **_parameters(options)))[0].number
    columns = ("service", "id", "stored", "topic", "position", "acknowledged", "error")
    lines = table(columns, map(_cells, found)) if found else []
    lines.append(_show_unacknowledged(unacknowledged) if unacknowledged or found else "no dead letters")
    code = ExitCode.FOUND if unacknowledged else ExitCode.OK
    return Report({"unacknowledged": unacknowledged, "dead_letters": found}, lines, code)


def _show_unacknowledged(number: int) -> str:
    if not number:
        return "all dead letters are acknowledged"
    return f"{quantity(number, 'dead letter')} {is_or_are(number)} not acknowledged"


async def show_dead_letters(stack: Stack, options: argparse.Namespace) -> Report:
    """Show dead letters in full.

    A body may have phones and texts. It is shown only with --show-phones and --show-texts.
    """
    _require_choice(options)
    rows = await stack.rows(options.service, _LIST, **_parameters(options, limit=options.limit))
    if not rows:
        raise _not_found(options)
    found = [_describe_in_full(options.service, row, options.show_phones and options.show_texts) for row in rows]
    return Report({"dead_letters": found}, [line for one in found for line in _lines(one)])


def _describe(service: str, row: Row[Any]) -> dict[str, Any]:
    return {
        "service": service,
        "id": row.id,
        "topic": row.topic,
        "partition": row.kafka_partition,
        "offset": row.kafka_offset,
        "stored_at": row.created_at,
        "acknowledged": row.acknowledged,
        "error": row.error,
    }


def _describe_in_full(service: str, row: Row[Any], show_body: bool) -> dict[str, Any]:
    return _describe(service, row) | {
        "key": (row.key or b"").decode(errors="replace") or None,
        "sha256": row.sha256.hex(),
        "body_bytes": len(row.body),
        "body": row.body.decode(errors="replace") if show_body else None,
    }


def _cells(one: Mapping[str, Any]) -> tuple[object, ...]:
    position, acknowledged = f"{one['partition']}/{one['offset']}", "yes" if one["acknowledged"] else "no"
    stored = show_age(one["stored_at"])
    return one["service"], str(one["id"]), stored, one["topic"], position, acknowledged, one["error"]


def _lines(one: Mapping[str, Any]) -> Iterator[str]:
    yield f"{one['service']} {one['id']}"
    yield f"  topic     {one['topic']}, partition {one['partition']}, offset {one['offset']}"
    yield f"  stored    {show_time(one['stored_at'])}{', acknowledged' if one['acknowledged'] else ''}"
    yield f"  error     {one['error']}"
    yield f"  key       {one['key'] or '-'}"
    yield f"  sha256    {one['sha256']}"
    hidden = f"{one['body_bytes']} bytes (--show-phones --show-texts shows them)"
    yield f"  body      {hidden if one['body'] is None else one['body']}"


async def replay_dead_letters(stack: Stack, options: argparse.Namespace) -> Report:
    """Move dead letters into the service's outbox, from where the relay transmits them to their topic again.

    Every consumer of the topic gets them again, which is harmless. A record that still cannot be read becomes a dead
    letter again. An event that was too large to transmit is not replayed, because it would be too large again.
    """
    _require_choice(options)
    too_large = [row.id for row in await stack.rows(options.service, _TOO_LARGE, **_parameters(options))]
    if too_large and options.id:
        raise Refused(_show_too_large(too_large))
    ends = await stack.rows(options.service, "SELECT coalesce(max(id), 0) AS last FROM dead_letters")
    replayed: Counter[str] = Counter()
    while True:
        async with stack.session(options.service) as session:
            topics = await _replay_batch(session, _parameters(options, last=ends[0].last, limit=_BATCH))
        replayed.update(topics)
        if len(topics) < _BATCH:
            break
    if not replayed:
        raise Refused(_show_too_large(too_large)) if too_large else _not_found(options)
    where = f"in {options.service}'s outbox and will be transmitted again"
    by_topic = dict(sorted(replayed.items()))
    lines = [f"{quantity(n, 'dead letter')} of {topic} {is_or_are(n)} {where}" for topic, n in by_topic.items()]
    if too_large:
        lines.append(_show_too_large(too_large))
    return Report({"service": options.service, "replayed": by_topic, "too_large": too_large}, lines)


def _show_too_large(ids: Sequence[int]) -> str:
    first = ", ".join(map(str, ids[:_SHOWN_IDS])) + (", …" if len(ids) > _SHOWN_IDS else "")
    number = quantity(len(ids), "event")
    return f"{number} too large to transmit cannot be replayed, only acknowledged: dead letter {first}"


def _not_found(options: argparse.Namespace) -> NotFound:
    return NotFound(f"{options.service} has no such dead letters")


async def _replay_batch(session: AsyncSession, parameters: dict[str, Any]) -> list[str]:
    rows = sorted((await session.execute(_DELETE, parameters)).all(), key=lambda row: int(row.id))
    await session.execute(
        _PUBLISH,
        _RECORD.bind(
            rows,
            event_id=[uuid4() for _ in rows],
            key=[(row.key or b"").decode(errors="replace") for row in rows],
        ),
    )
    return [row.topic for row in rows]


async def acknowledge(stack: Stack, options: argparse.Namespace) -> Report:
    """Acknowledge dead letters of a service, so that its paused consumers continue within half a minute.

    They stay listed and can be replayed.
    """
    _require_choice(options)
    rows = await stack.rows(options.service, _ACKNOWLEDGE, **_parameters(options))
    lines = [f"{row.topic}: {quantity(row.number, 'dead letter')} {is_or_are(row.number)} acknowledged" for row in rows]
    document = {"service": options.service, "acknowledged": {row.topic: row.number for row in rows}}
    return Report(document, lines or [f"{options.service} has no dead letters to acknowledge"])


def _require_choice(options: argparse.Namespace) -> None:
    if not (options.topic or options.id or options.all):
        raise WrongUsage("choose dead letters with --topic, --id (several times if needed) or --all")
    if options.all and (options.topic or options.id):
        raise WrongUsage("--all cannot be used with --topic or --id: choose one of them")


def _add_service(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument("--service", choices=STORES, required=required, help="the service that stored them")
    parser.add_argument("--topic", help="only those of one topic")


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--id", type=read_positive, action="append", help="the id of one; repeat the option for more")


def _add_limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=read_positive, default=50, help="at most so many of a service (50)")


def _add_list(parser: argparse.ArgumentParser) -> None:
    _add_service(parser, required=False)
    _add_choice(parser)
    _add_limit(parser)


def _add_required_choice(parser: argparse.ArgumentParser) -> None:
    _add_service(parser)
    _add_choice(parser)
    parser.add_argument("--all", action="store_true", help="choose all of the service")


def _add_show(parser: argparse.ArgumentParser) -> None:
    _add_required_choice(parser)
    _add_limit(parser)
    add_privacy(parser)


COMMAND = Group(
    "dead-letters",
    "list, show, replay or acknowledge records that could not be read, and events too large to transmit",
    (
        Command("list", "list the newest", list_dead_letters, _add_list),
        Command("show", "show some in full", show_dead_letters, _add_show),
        Command("replay", "transmit some again", replay_dead_letters, _add_required_choice, changes=True),
        Command("acknowledge", "let paused consumers continue", acknowledge, _add_required_choice, changes=True),
    ),
)
