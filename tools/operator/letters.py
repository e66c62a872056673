"""Records that a consumer could not read: listed, shown, published again, let pass."""

import argparse
from typing import Any
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from tools.operator.stack import OperatorError, Stack, show_age, show_time

SERVICES = ("contacts", "scheduling", "delivery")
_BATCH = 500
_CHOSEN = "(CAST(:topic AS text) IS NULL OR topic = :topic) AND (CAST(:ids AS bigint[]) IS NULL OR id = ANY(:ids))"
_LIST = f"SELECT * FROM dead_letters WHERE {_CHOSEN} ORDER BY id DESC LIMIT :limit"  # noqa: S608
_TAKE = text(
    f"DELETE FROM dead_letters WHERE id = ANY(ARRAY(SELECT id FROM dead_letters WHERE {_CHOSEN} AND id <= :last"  # noqa: S608
    " ORDER BY id LIMIT :limit FOR UPDATE)) RETURNING id, topic, key, body"
)
_PUBLISH = text(
    """
    INSERT INTO outbox (event_id, topic, key, body, request_id)
    SELECT event_id, topic, key, body, '' FROM unnest(CAST(:event_ids AS uuid[]), CAST(:topics AS text[]),
                                                      CAST(:keys AS text[]), CAST(:bodies AS bytea[]))
        AS letter (event_id, topic, key, body)
    """
)


def _chosen(options: argparse.Namespace, **more: Any) -> dict[str, Any]:
    return {"topic": options.topic, "ids": options.id or None, **more}


async def list_letters(stack: Stack, options: argparse.Namespace) -> int:
    """The newest dead letters of each service. 1 when there are any."""
    found = False
    for service in [options.service] if options.service else SERVICES:
        rows = await stack.rows(service, _LIST, **_chosen(options, limit=options.limit))
        for row in rows:
            found = True
            passed = "  (let pass)" if row.passed else ""
            place = f"{row.topic} {row.kafka_partition}/{row.kafka_offset}"
            print(f"{service} {row.id}  {show_age(row.created_at)}  {place}  {row.error}{passed}")
    if not found:
        print("no dead letters")
    return 1 if found else 0


async def show_letters(stack: Stack, options: argparse.Namespace) -> int:
    """Everything about dead letters; what is in them, phones and texts too, only with --reveal."""
    _require_choice(options)
    rows = await stack.rows(options.service, _LIST, **_chosen(options, limit=options.limit))
    for row in rows:
        print(f"{options.service} {row.id}")
        print(f"  topic     {row.topic}, partition {row.kafka_partition}, offset {row.kafka_offset}")
        print(f"  set aside {show_time(row.created_at)}{', let pass' if row.passed else ''}")
        print(f"  error     {row.error}")
        print(f"  key       {(row.key or b'').decode(errors='replace') or '-'}")
        print(f"  sha256    {row.sha256.hex()}")
        body = row.body.decode(errors="replace") if options.reveal else f"{len(row.body)} bytes (--reveal shows them)"
        print(f"  body      {body}")
    return 0 if rows else 1


async def replay_letters(stack: Stack, options: argparse.Namespace) -> int:
    """Puts dead letters into the service's outbox, from where its relay publishes them to their topic again.

    Every consumer of the topic gets them once more, which is harmless. What still cannot be read comes back here.
    """
    _require_choice(options)
    ends = await stack.rows(options.service, "SELECT coalesce(max(id), 0) AS last FROM dead_letters")
    replayed: dict[str, int] = {}
    while True:
        async with stack.session(options.service) as session:
            topics = await _replay_batch(session, _chosen(options, last=ends[0].last, limit=_BATCH))
        for topic in topics:
            replayed[topic] = replayed.get(topic, 0) + 1
        if len(topics) < _BATCH:
            break
    for topic, count in sorted(replayed.items()):
        print(f"{count} dead letters of {topic} are in {options.service}'s outbox and will be published again")
    if not replayed:
        print("no such dead letters")
    return 0 if replayed else 1


async def _replay_batch(session: AsyncSession, chosen: dict[str, Any]) -> list[str]:
    rows = sorted((await session.execute(_TAKE, chosen)).all(), key=lambda row: int(row.id))
    await session.execute(
        _PUBLISH,
        {
            "event_ids": [uuid4() for _ in rows],
            "topics": [row.topic for row in rows],
            "keys": [(row.key or b"").decode(errors="replace") for row in rows],
            "bodies": [row.body for row in rows],
        },
    )
    return [row.topic for row in rows]


async def resume(stack: Stack, options: argparse.Namespace) -> int:
    """Lets the dead letters of a service pass: its consumers go on within half a minute, and count anew."""
    statement = (
        "WITH passed AS (UPDATE dead_letters SET passed = true"
        " WHERE NOT passed AND (CAST(:topic AS text) IS NULL OR topic = :topic) RETURNING topic)"
        " SELECT topic, count(*) AS number FROM passed GROUP BY topic ORDER BY topic"
    )
    rows = await stack.rows(options.service, statement, topic=options.topic)
    for row in rows:
        print(f"{row.topic}: {row.number} dead letters count no more; they stay listed and can be replayed")
    if not rows:
        print(f"nothing stops {options.service}: it has no dead letters that count")
    return 0


def _require_choice(options: argparse.Namespace) -> None:
    if not (options.topic or options.id or getattr(options, "all", False)):
        raise OperatorError("say which: --topic, --id (several times, if need be) or --all")
