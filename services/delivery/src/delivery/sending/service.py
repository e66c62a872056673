"""Use cases of sending: claim messages, record results, and resolve submissions whose outcome is not known."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID, uuid4

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from common.events import FailureCategory
from delivery.messages import service as messages
from delivery.messages.rules import InSubmission, Result
from delivery.models import IN_SUBMISSION, ClaimedMessage, DueSubmission, LockedMessage, MessageStatus, SubmissionState
from delivery.providers.base import Provider
from delivery.sending import repository, submissions
from delivery.sending.routing import Router
from delivery.sending.rules import (
    PUBLISHED_DELAY_S,
    Capacity,
    Claim,
    SendingPolicy,
    Submission,
    find_refusal,
    make_batches,
    make_submission,
    next_positions,
    outgoing,
)

log = structlog.get_logger()

BATCH = 100


async def claim_submissions(
    session: AsyncSession, provider: Provider, *, router: Router, capacity: Capacity, policy: SendingPolicy
) -> Claim:
    """Claim queued messages for a provider and insert their submissions. The caller sends them after the commit.

    A message that must not be sent any more fails instead. Messages for which the allowance is not enough stay queued.
    """
    route = await router.find(session, provider.name, capacity.message_format)
    if route is None:
        return Claim((), capacity.positions)
    claimed = await repository.claim(session, provider.name, capacity, route.share)
    refusals: dict[int, FailureCategory] = {
        message.id: refusal for message in claimed if (refusal := find_refusal(message, provider)) is not None
    }
    await messages.fail(session, refusals)
    sendable = [message for message in claimed if message.id not in refusals]
    allowed = sendable[: capacity.allowance.fit([message.parts for message in sendable])]
    batches = {
        uuid4(): (batch, provider.prepare([outgoing(message, route.sender_ids) for message in batch]))
        for batch in make_batches(allowed, provider.batch_size, capacity.submissions)
    }
    if batches:
        await submissions.add(session, provider.name, batches, policy)
        default_sender_id = provider.default_sender_id or None
        claims = [
            InSubmission(message.id, key, sender_id=route.sender_ids.get(message.organisation_id) or default_sender_id)
            for key, (batch, _) in batches.items()
            for message in batch
        ]
        await messages.set_sending(session, provider.name, claims)
    return Claim(
        [make_submission(key, batch, body) for key, (batch, body) in batches.items()],
        next_positions(capacity, claimed, allowed if len(allowed) < len(sendable) else None),
        is_full=len(claimed) >= capacity.messages or bool(refusals) or len(sendable) > _count(batches.values()),
    )


def _count(batches: Iterable[tuple[Sequence[ClaimedMessage], bytes]]) -> int:
    return sum(len(messages) for messages, _ in batches)


async def record_results(session: AsyncSession, results: Sequence[Result], policy: SendingPolicy) -> None:
    """Apply results to messages that are still in the submission. Publish them, and update the submissions."""
    best: dict[tuple[int, UUID], Result] = {}
    for result in results:  # a late answer and that of a resend may be in one batch: keep the acceptance
        if result.status == MessageStatus.SENT or (result.message_id, result.key) not in best:
            best[result.message_id, result.key] = result
    min_delay_s = min(PUBLISHED_DELAY_S, policy.retry_base_s)
    applied = await messages.apply_results(session, list(best.values()), min_delay_s=min_delay_s)
    unknown = {result.key: result for result in best.values() if result.status == MessageStatus.UNKNOWN}
    if unknown:
        await submissions.mark_unknown(session, unknown.values(), policy)
    resolved_keys = {result.key for result in best.values() if result.status != MessageStatus.UNKNOWN}
    await remove_resolved(session, resolved_keys, [row.id for row in applied if row.status not in IN_SUBMISSION])


async def remove_resolved(session: AsyncSession, keys: Collection[UUID], resolved: Collection[int] = ()) -> None:
    """Delete submissions all of whose messages have an outcome. `resolved` are ids of messages known to have one."""
    if keys:
        await submissions.remove_resolved(session, keys, resolved)


async def resolve_submissions(
    session: AsyncSession,
    provider: str,
    slots: int,
    policy: SendingPolicy,
    *,
    deduplicates: bool,
    handles_opt_outs: bool = False,
) -> list[Submission]:
    """Handle the due submissions of a provider. Return those that are to be resent, at most `slots`.

    A submission whose lease ended becomes unknown. An unknown one is resent while that can help, and given up when its
    time is over. A resend helps only at a provider that `deduplicates`, and it must not reach a recipient who opted
    out, unless the provider `handles_opt_outs` itself and got this one. Nothing is resent while the provider is paused.
    """
    due = await submissions.due(session, provider, BATCH)
    if not due:
        return []
    locked = await _lock_messages(session, due, handles_opt_outs=handles_opt_outs)
    ended = [one.key for one in due if one.state == SubmissionState.OPEN]
    if ended:
        log.warning("submission lease ended", provider=provider, submissions=len(ended))
        keys = await submissions.end_leases(session, ended, policy, may_resend=deduplicates)
        await messages.set_unknown(session, [InSubmission(m.id, key) for key in keys for m in locked[key]])
    unknown = [one for one in due if one.state == SubmissionState.UNKNOWN]
    await _give_up(session, [one for one in unknown if one.is_over], locked)
    await submissions.remove_resolved(session, list(locked))
    not_resendable = {key for key in locked if not deduplicates or any(message.is_refused for message in locked[key])}
    if not_resendable:
        await submissions.wait_for_give_up(session, not_resendable)
    resendable = [one.key for one in unknown if not one.is_over and one.key not in not_resendable]
    return await _resend(session, [] if due[0].is_paused else resendable[:slots], policy)


async def _lock_messages(
    session: AsyncSession, due: Sequence[DueSubmission], *, handles_opt_outs: bool
) -> dict[UUID, list[LockedMessage]]:
    """Lock the messages of submissions. Return, for each submission, those without an outcome."""
    ids = [message_id for one in due for message_id in one.message_ids]
    locked: dict[UUID, list[LockedMessage]] = {one.key: [] for one in due}
    for message in await submissions.lock_messages(session, ids, handles_opt_outs=handles_opt_outs):
        if message.status in IN_SUBMISSION and message.submission_key in locked:
            locked[message.submission_key].append(message)
    return locked


async def _give_up(
    session: AsyncSession, over: Sequence[DueSubmission], locked: Mapping[UUID, Sequence[LockedMessage]]
) -> None:
    """Fail the unknown messages of submissions whose time is over. They keep their parts.

    The messages are locked. One that is sending is being resent by another worker at this moment.
    """
    unknown_ids = [message.id for one in over for message in locked[one.key] if message.status == MessageStatus.UNKNOWN]
    await messages.fail(session, dict.fromkeys(unknown_ids, "outcome_unknown"))


async def _resend(session: AsyncSession, keys: Sequence[UUID], policy: SendingPolicy) -> list[Submission]:
    if not keys:
        return []
    resent = await submissions.resend(session, keys, policy)
    members = [InSubmission(message_id, row.key, row.tries) for row in resent for message_id in row.message_ids]
    await messages.set_resending(session, members)
    return [
        Submission(
            key=row.key,
            tries=row.tries,
            body=row.body,
            message_ids=row.message_ids,
            attempts=[0] * len(row.message_ids),  # not used: only an answer counts, and it is no new attempt
            parts=row.parts,
            request_id=row.request_id,
            traceparents=row.traceparents,
        )
        for row in resent
    ]


async def give_up_unconfigured(session: AsyncSession, configured: Collection[str], policy: SendingPolicy) -> list[str]:
    """Handle the submissions of providers that are not configured any more, and return these providers.

    The submissions wait for a delivery receipt, and are given up when their time is over.
    """
    unconfigured = [name for name in await submissions.providers(session) if name not in configured]
    for name in unconfigured:
        await resolve_submissions(session, name, 0, policy, deduplicates=False)
    return unconfigured
