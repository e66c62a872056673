"""The commands on dead letters, which are records that a consumer could not read."""

import argparse
from collections import Counter
from typing import Any
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from tools.embedded.environment import STORES
from tools.operator.stack import OperatorError, Stack, show_age, show_time

_BATCH = 500
_CHOSEN = "(CAST(:topic AS text) IS NULL OR topic = :topic) AND (CAST(:ids AS bigint[]) IS NULL OR id = ANY(:ids))"
_LIST = f"SELECT * FROM dead_letters WHERE {_CHOSEN} ORDER BY id DESC LIMIT :limit"  # noqa: S608
_DELETE = text(
    f"DELETE FROM dead_letters WHERE id = ANY(ARRAY(SELECT id FROM dead_letters WHERE {_CHOSEN} AND id <= :last"  # noqa: S608
    " ORDER BY id LIMIT :limit FOR UPDATE)) RETURNING id, topic, key, body"
)
_RECORD = Columns(event_id="uuid", topic="text", key="text", body="bytea")
_PUBLISH = text(
    "INSERT INTO outbox (event_id, topic, key, body, request_id)"  # noqa: S608  # constants of this file
    f" SELECT event_id, topic, key, body, '' FROM {_RECORD.unnest('record')}"
)
_ACKNOWLEDGE = """
    WITH changed AS (UPDATE dead_letters SET acknowledged = true
                     WHERE NOT acknowledged AND (CAST(:topic AS text) IS NULL OR topic = :topic) RETURNING topic)
    SELECT topic, count(*) AS number FROM changed GROUP BY topic ORDER BY topic
"""


def _parameters(options: argparse.Namespace, **more: Any) -> dict[str, Any]:
    return {"topic": options.topic, "ids": options.id or None, **more}


async def list_dead_letters(stack: Stack, options: argparse.Namespace) -> int:
    """List the newest dead letters of each service. 1 when there are any."""
    found = False
    for service in [options.service] if options.service else STORES:
        rows = await stack.rows(service, _LIST, **_parameters(options, limit=options.limit))
        for row in rows:
            found = True
            acknowledged = "  (acknowledged)" if row.acknowledged else ""
            position = f"{row.topic} {row.kafka_partition}/{row.kafka_offset}"
            print(f"{service} {row.id}  {show_age(row.created_at)}  {position}  {row.error}{acknowledged}")
    if not found:
        print("no dead letters")
    return 1 if found else 0


async def show_dead_letters(stack: Stack, options: argparse.Namespace) -> int:
    """Show dead letters in full. Their bodies, which may have phones and texts, are shown only with --reveal."""
    _require_choice(options)
    rows = await stack.rows(options.service, _LIST, **_parameters(options, limit=options.limit))
    for row in rows:
        print(f"{options.service} {row.id}")
        print(f"  topic     {row.topic}, partition {row.kafka_partition}, offset {row.kafka_offset}")
        print(f"  stored    {show_time(row.created_at)}{', acknowledged' if row.acknowledged else ''}")
        print(f"  error     {row.error}")
        print(f"  key       {(row.key or b'').decode(errors='replace') or '-'}")
        print(f"  sha256    {row.sha256.hex()}")
        body = row.body.decode(errors="replace") if options.reveal else f"{len(row.body)} bytes (--reveal shows them)"
        print(f"  body      {body}")
    return 0 if rows else 1


async def replay_dead_letters(stack: Stack, options: argparse.Namespace) -> int:
    """Move dead letters into the service's outbox, from where the relay transmits them to their topic again.

    Every consumer of the topic gets them again, which is harmless. A record that still cannot be read becomes a dead
    letter again.
    """
    _require_choice(options)
    ends = await stack.rows(options.service, "SELECT coalesce(max(id), 0) AS last FROM dead_letters")
    replayed: Counter[str] = Counter()
    while True:
        async with stack.session(options.service) as session:
            topics = await _replay_batch(session, _parameters(options, last=ends[0].last, limit=_BATCH))
        replayed.update(topics)
        if len(topics) < _BATCH:
            break
    for topic, count in sorted(replayed.items()):
        print(f"{count} dead letters of {topic} are in {options.service}'s outbox and will be published again")
    if not replayed:
        print("no such dead letters")
    return 0 if replayed else 1


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


async def acknowledge(stack: Stack, options: argparse.Namespace) -> int:
    """Acknowledge the dead letters of a service, so that its paused consumers continue within half a minute."""
    rows = await stack.rows(options.service, _ACKNOWLEDGE, topic=options.topic)
    for row in rows:
        print(f"{row.topic}: {row.number} dead letters are acknowledged. They stay listed and can be replayed.")
    if not rows:
        print(f"{options.service} has no dead letters to acknowledge")
    return 0


def _require_choice(options: argparse.Namespace) -> None:
    if not (options.topic or options.id or getattr(options, "all", False)):
        raise OperatorError("choose dead letters with --topic, --id (several times if needed) or --all")
