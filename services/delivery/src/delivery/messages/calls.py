"""Every statement on calls: the requests to providers whose outcome is not known yet."""
# ruff: noqa: S608 (what is put together are constants of this file)

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from delivery.messages.repository import HAS_STOPPED
from delivery.messages.rules import LONGEST_BACK_OFF_S, Policy

_START = text(
    """
    WITH items AS (
        SELECT * FROM unnest(CAST(:ids AS bigint[]), CAST(:keys AS uuid[]), CAST(:senders AS text[]))
            WITH ORDINALITY AS i (id, key, sender, place)
    ),
    made AS (
        INSERT INTO calls (key, provider, message_ids, body, due_at, ends_at)
        SELECT c.key, :provider, m.ids, c.body, now() + make_interval(secs => :lease_s),
               least(now() + make_interval(secs => :window_s), c.deadline)
        FROM unnest(CAST(:call_keys AS uuid[]), CAST(:bodies AS bytea[]), CAST(:deadlines AS timestamptz[]))
            AS c (key, body, deadline)
        JOIN (SELECT key, array_agg(id ORDER BY place) AS ids FROM items GROUP BY key) m USING (key)
    )
    UPDATE messages m
    SET status = 'sending', attempts = m.attempts + 1, provider = :provider, sender = i.sender, call_key = i.key,
        call_requests = 1
    FROM items i WHERE m.id = i.id AND m.id = ANY(CAST(:ids AS bigint[]))
    """
)
# When an unknown call is looked at again: to be repeated, or, where that is of no use, at its end.
_NEXT_LOOK = """
    CASE WHEN {replay} THEN least(ends_at, requested_at + make_interval(secs =>
             least(:longest_s, :replay_after_s * power(2, calls.requests - 1))))
         ELSE ends_at END
"""
_DOUBT = text(
    f"""
    UPDATE calls SET state = 'unknown', due_at = {_NEXT_LOOK.format(replay="d.replay")}
    FROM unnest(CAST(:keys AS uuid[]), CAST(:requests AS int[]), CAST(:replays AS boolean[]))
        AS d (key, requests, replay)
    WHERE calls.key = d.key AND calls.requests = d.requests AND state = 'open'
    """
)
_REMOVE_SETTLED = text(
    """
    DELETE FROM calls c WHERE c.key = ANY(CAST(:keys AS uuid[])) AND NOT EXISTS (
        SELECT FROM messages m WHERE m.id = ANY(c.message_ids) AND m.call_key = c.key
                                 AND m.status IN ('sending', 'unknown'))
    """
)
# Leases that ran out (open) come before what waits for a free request.
_DUE = text(
    """
    SELECT key, state, requests, message_ids, ends_at <= now() AS has_ended FROM calls
    WHERE provider = :provider AND due_at <= now() ORDER BY state, due_at LIMIT :batch
    """
)
# Messages before calls, as everywhere: two transactions never wait for each other. Who said STOP to the provider that
# refuses who stopped is refused by it, should the call not have been taken the first time.
_LOCK = text(
    f"""
    SELECT m.id, m.status, m.call_key,
           {HAS_STOPPED.format(m="m")} AND NOT (CAST(:refuses_stopped AS boolean) AND coalesce(
               (SELECT true FROM stops s JOIN inbound_messages i ON i.id = s.message_id
                WHERE s.organisation_id = m.organisation_id AND s.phone = m.phone AND s.stopped
                  AND i.provider = m.provider), false)) AS has_stopped
    FROM messages m WHERE m.id = ANY(CAST(:ids AS bigint[])) ORDER BY m.id FOR UPDATE OF m
    """
)
_LAPSE = text(
    f"""
    WITH lapsed AS (
        UPDATE calls SET state = 'unknown', due_at = {_NEXT_LOOK.format(replay=":replay")}
        WHERE key = ANY(CAST(:keys AS uuid[])) AND state = 'open' AND due_at <= now()
        RETURNING key, message_ids
    )
    UPDATE messages m SET status = 'unknown'
    FROM lapsed l WHERE m.id = ANY(l.message_ids) AND m.call_key = l.key AND m.status = 'sending'
    """
)
_REPEAT = text(
    """
    WITH repeated AS (
        UPDATE calls SET state = 'open', requests = requests + 1, requested_at = now(),
                         due_at = now() + make_interval(secs => :lease_s)
        WHERE key = ANY(CAST(:keys AS uuid[])) AND state = 'unknown' AND due_at <= now()
        RETURNING key, requests, body, message_ids
    ),
    sending AS (
        UPDATE messages m SET status = 'sending', call_requests = r.requests
        FROM repeated r WHERE m.id = ANY(r.message_ids) AND m.call_key = r.key AND m.status = 'unknown'
    )
    SELECT r.key, r.requests, r.body, r.message_ids, o.parts, o.request_id
    FROM repeated r CROSS JOIN LATERAL (
        SELECT sum(m.units) AS parts,
               CASE WHEN min(m.request_id) = max(m.request_id) THEN min(m.request_id) ELSE '' END AS request_id
        FROM messages m WHERE m.id = ANY(r.message_ids)) o
    """
)
_WAIT = text("UPDATE calls SET due_at = ends_at WHERE key = ANY(CAST(:keys AS uuid[])) AND state = 'unknown'")


async def start(
    session: AsyncSession,
    provider: str,
    calls: Mapping[UUID, tuple[Sequence[Any], bytes]],
    senders: Mapping[str, str],
    policy: Policy,
) -> None:
    """Key → (its claimed messages in order, its body): writes the calls with a lease and sets the messages sending,
    each under its organisation's own sender if there is one."""
    items = [(message.id, key) for key, (messages, _) in calls.items() for message in messages]
    await session.execute(
        _START,
        {
            "provider": provider,
            "ids": [message_id for message_id, _ in items],
            "keys": [key for _, key in items],
            "senders": [senders.get(m.organisation_id) for messages, _ in calls.values() for m in messages],
            "call_keys": list(calls),
            "bodies": [body for _, body in calls.values()],
            "deadlines": [min(message.deadline for message in messages) for messages, _ in calls.values()],
            "lease_s": policy.lease_s,
            "window_s": policy.replay_window_s,
        },
    )


async def doubt(session: AsyncSession, calls: Mapping[UUID, tuple[int, bool]], policy: Policy) -> None:
    """Key → (count of requests, whether a repetition helps): open calls become unknown."""
    await session.execute(
        _DOUBT,
        {
            "keys": list(calls),
            "requests": [requests for requests, _ in calls.values()],
            "replays": [replay for _, replay in calls.values()],
            **_look(policy),
        },
    )


async def remove_settled(session: AsyncSession, keys: Collection[UUID]) -> None:
    """Removes those of the calls whose messages all have an outcome."""
    await session.execute(_REMOVE_SETTLED, {"keys": list(keys)})


async def due(session: AsyncSession, provider: str, batch: int) -> Sequence[Row[Any]]:
    """Calls past their lease or due for a look: `key, state, requests, message_ids, has_ended`."""
    return (await session.execute(_DUE, {"provider": provider, "batch": batch})).all()


async def providers(session: AsyncSession) -> list[str]:
    """The providers that have calls."""
    return list((await session.execute(text("SELECT DISTINCT provider FROM calls"))).scalars())


async def lock_messages(
    session: AsyncSession, ids: Collection[int], *, refuses_stopped: bool = False
) -> Sequence[Row[Any]]:
    """Locks messages in order: `id, status, call_key, has_stopped`. `refuses_stopped`: their provider itself keeps
    messages from those who said STOP to it, so they need not be kept from it."""
    return (await session.execute(_LOCK, {"ids": list(ids), "refuses_stopped": refuses_stopped})).all()


async def lapse(session: AsyncSession, keys: Collection[UUID], *, replay: bool, policy: Policy) -> None:
    """Calls whose lease ran out become unknown, with their messages."""
    await session.execute(_LAPSE, {"keys": list(keys), "replay": replay, **_look(policy)})


async def repeat(session: AsyncSession, keys: Collection[UUID], policy: Policy) -> Sequence[Row[Any]]:
    """Takes unknown calls for another request under a lease: `key, requests, body, message_ids, parts, request_id`."""
    return (await session.execute(_REPEAT, {"keys": list(keys), "lease_s": policy.lease_s})).all()


async def wait_for_end(session: AsyncSession, keys: Collection[UUID]) -> None:
    """These are not repeated any more; they end when their window does."""
    await session.execute(_WAIT, {"keys": list(keys)})


def _look(policy: Policy) -> dict[str, float]:
    return {"replay_after_s": policy.replay_after_s, "longest_s": max(LONGEST_BACK_OFF_S, policy.replay_after_s)}
