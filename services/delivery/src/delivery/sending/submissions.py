"""Every statement on submissions: HTTP requests to providers whose outcome is not known yet.

A submission and its messages change in the same transaction. Messages are locked before submissions, as everywhere, so
that two transactions never wait for each other.
"""
# ruff: noqa: S608 (the parts of the statements are constants)

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from delivery.messages.rules import Result
from delivery.models import (
    IN_SUBMISSION,
    PROVIDER_PAUSED,
    ClaimedMessage,
    DueSubmission,
    LockedMessage,
    ResentSubmission,
    columns,
    read_rows,
    sql_list,
)
from delivery.opt_outs.rules import OPTED_OUT_AT_PROVIDER, REFUSES_RECIPIENT
from delivery.sending.rules import MAX_BACK_OFF_S, SendingPolicy

_MEMBER = Columns(submission_key="uuid", message_id="bigint", position="int")
_NEW = Columns(key="uuid", body="bytea", deadline="timestamptz")
_UNKNOWN = Columns(key="uuid", tries="int", may_resend="boolean")
_ADD = text(
    f"""
    INSERT INTO submissions (key, provider, message_ids, body, due_at, give_up_at)
    SELECT n.key, :provider, m.ids, n.body, now() + make_interval(secs => :lease_s),
           least(now() + make_interval(secs => :window_s), n.deadline)
    FROM {_NEW.unnest("n")}
    JOIN (SELECT submission_key AS key, array_agg(message_id ORDER BY position) AS ids
          FROM {_MEMBER.unnest("i")} GROUP BY 1) m USING (key)
    """
)
# When an unknown submission is due: for a resend, after growing pauses, or, if a resend cannot help, for the give-up.
_NEXT_DUE = """
    CASE WHEN {may_resend} THEN least(give_up_at, tried_at + make_interval(secs =>
             least(:max_pause_s, :resend_after_s * power(2, submissions.tries - 1))))
         ELSE give_up_at END
"""
_MARK_UNKNOWN = text(
    f"""
    UPDATE submissions SET state = 'unknown', due_at = {_NEXT_DUE.format(may_resend="u.may_resend")}
    FROM {_UNKNOWN.unnest("u")}
    WHERE submissions.key = u.key AND submissions.tries = u.tries AND state = 'open'
    """
)
# Known outcomes come first: they save reading the messages again.
_REMOVE_RESOLVED = text(
    f"""
    DELETE FROM submissions s WHERE s.key = ANY(CAST(:keys AS uuid[]))
      AND (s.message_ids <@ CAST(:resolved AS bigint[]) OR NOT EXISTS (
            SELECT FROM messages m WHERE m.id = ANY(s.message_ids) AND m.submission_key = s.key
                                     AND m.status IN ({sql_list(IN_SUBMISSION)})))
    """
)
# Leases that ended (open) come before what waits for a free request.
_DUE = text(
    f"""
    SELECT {columns(DueSubmission)} FROM (
        SELECT key, state, message_ids, give_up_at <= now() AS is_over, {PROVIDER_PAUSED} AS is_paused FROM submissions
        WHERE provider = :provider AND due_at <= now() ORDER BY state, due_at LIMIT :batch
    ) AS due
    """
)
# If the first try did not reach a provider that handles opt-outs, a resend would reach it. The provider then refuses
# the number that opted out there, so such an opt-out does not stop the resend.
_LOCK_MESSAGES = text(
    f"""
    SELECT m.id, m.status, m.submission_key,
           {REFUSES_RECIPIENT.format(m="m")}
           AND NOT (CAST(:handles_opt_outs AS boolean) AND {OPTED_OUT_AT_PROVIDER.format(m="m")}) AS is_refused
    FROM messages m WHERE m.id = ANY(CAST(:ids AS bigint[])) ORDER BY m.id FOR UPDATE OF m
    """
)
_END_LEASES = text(
    f"""
    UPDATE submissions SET state = 'unknown', due_at = {_NEXT_DUE.format(may_resend=":may_resend")}
    WHERE key = ANY(CAST(:keys AS uuid[])) AND state = 'open' AND due_at <= now()
    RETURNING key
    """
)
_RESEND = text(
    f"""
    WITH resent AS (
        UPDATE submissions SET state = 'open', tries = tries + 1, tried_at = now(),
                               due_at = now() + make_interval(secs => :lease_s)
        WHERE key = ANY(CAST(:keys AS uuid[])) AND state = 'unknown' AND due_at <= now()
        RETURNING key, tries, body, message_ids
    )
    SELECT {columns(ResentSubmission)} FROM resent r CROSS JOIN LATERAL (
        SELECT sum(m.parts) AS parts,
               CASE WHEN min(m.request_id) = max(m.request_id) THEN min(m.request_id) ELSE '' END AS request_id,
               coalesce(array_agg(m.traceparent) FILTER (WHERE m.traceparent IS NOT NULL), '{{}}') AS traceparents
        FROM messages m WHERE m.id = ANY(r.message_ids)) o
    """
)
_WAIT_FOR_GIVE_UP = text(
    "UPDATE submissions SET due_at = give_up_at WHERE key = ANY(CAST(:keys AS uuid[])) AND state = 'unknown'"
)


async def add(
    session: AsyncSession,
    provider: str,
    batches: Mapping[UUID, tuple[Sequence[ClaimedMessage], bytes]],
    policy: SendingPolicy,
) -> None:
    """Insert submissions (key → claimed messages in order, and the body) with a lease."""
    members = [
        (key, message.id, position)
        for key, (messages, _) in batches.items()
        for position, message in enumerate(messages)
    ]
    new = [(key, body, min(message.deadline for message in messages)) for key, (messages, body) in batches.items()]
    await session.execute(
        _ADD,
        {
            "provider": provider,
            "lease_s": policy.lease_s,
            "window_s": policy.replay_window_s,
            **_MEMBER.bind_tuples(members),
            **_NEW.bind_tuples(new),
        },
    )


async def mark_unknown(session: AsyncSession, results: Collection[Result], policy: SendingPolicy) -> None:
    """Mark open submissions unknown, one result for each. A submission that was resent since stays open."""
    await session.execute(_MARK_UNKNOWN, {**_UNKNOWN.bind(results), **_pauses(policy)})


async def remove_resolved(session: AsyncSession, keys: Collection[UUID], resolved: Collection[int] = ()) -> None:
    """Delete submissions all of whose messages have an outcome. `resolved` are ids of messages known to have one."""
    await session.execute(_REMOVE_RESOLVED, {"keys": list(keys), "resolved": list(resolved)})


async def due(session: AsyncSession, provider: str, batch: int) -> list[DueSubmission]:
    """Return submissions whose lease ended, or that are to be resent or given up."""
    return read_rows(DueSubmission, await session.execute(_DUE, {"provider": provider, "batch": batch}))


async def providers(session: AsyncSession) -> Sequence[str]:
    """Return the providers that have submissions."""
    return (await session.scalars(text("SELECT DISTINCT provider FROM submissions"))).all()


async def lock_messages(session: AsyncSession, ids: Collection[int], *, handles_opt_outs: bool) -> list[LockedMessage]:
    """Lock messages in order of their ids.

    `handles_opt_outs`: the provider itself refuses numbers that opted out by a keyword to it.
    """
    rows = await session.execute(_LOCK_MESSAGES, {"ids": list(ids), "handles_opt_outs": handles_opt_outs})
    return read_rows(LockedMessage, rows)


async def end_leases(
    session: AsyncSession, keys: Collection[UUID], policy: SendingPolicy, *, may_resend: bool
) -> Sequence[UUID]:
    """Mark open submissions whose lease ended unknown. Return their keys."""
    parameters = {"keys": list(keys), "may_resend": may_resend, **_pauses(policy)}
    return (await session.scalars(_END_LEASES, parameters)).all()


async def resend(session: AsyncSession, keys: Collection[UUID], policy: SendingPolicy) -> list[ResentSubmission]:
    """Open unknown submissions for another try, with a new lease."""
    rows = await session.execute(_RESEND, {"keys": list(keys), "lease_s": policy.lease_s})
    return read_rows(ResentSubmission, rows)


async def wait_for_give_up(session: AsyncSession, keys: Collection[UUID]) -> None:
    """Do not resend these unknown submissions. They are due again when they are given up."""
    await session.execute(_WAIT_FOR_GIVE_UP, {"keys": list(keys)})


def _pauses(policy: SendingPolicy) -> dict[str, float]:
    max_pause_s = max(MAX_BACK_OFF_S, policy.replay_after_s)
    return {"resend_after_s": policy.replay_after_s, "max_pause_s": max_pause_s}
