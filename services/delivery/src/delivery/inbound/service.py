"""Use cases of inbound messages: store them, apply STOP and START, and queue auto-replies."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from common.events import MessageReceived
from common.outbox import publish
from common.sms import measure
from delivery.configs import service as configs
from delivery.configs.rules import STOP_WORDS_OFF
from delivery.inbound import repository
from delivery.inbound.rules import (
    AUTO_REPLIES,
    InboundPolicy,
    OwnedMessage,
    Owner,
    ReceivedMessage,
    UnmatchedChoice,
    UnmatchedCount,
    UnmatchedMessage,
    auto_reply_text,
    choose_owners,
    find_keyword,
    is_mobile,
    normalise_keyword,
    received_again,
)
from delivery.limits import service as limits
from delivery.messages import service as outbound
from delivery.messages.rules import AutoReply
from delivery.opt_outs import service as opt_outs
from delivery.opt_outs.rules import OptOutChange
from delivery.sender_ids import service as sender_ids

log = structlog.get_logger()

_CONFIG_NAMES = (STOP_WORDS_OFF.name, *(spec.name for spec, _ in AUTO_REPLIES.values()))
Configs = Mapping[str, Mapping[str, str]]  # organisation → name → value
Owners = Mapping[int, Sequence[Owner]]  # event id → organisations of the message, the one that it is stored for first


async def add_inbound_messages(
    session: AsyncSession, received: Sequence[ReceivedMessage], policy: InboundPolicy
) -> dict[int, int]:
    """Store each message once. Publish those whose organisation is known, and act on their keywords.

    Return event id → id of the stored message, for the messages whose organisation is known.
    """
    stored = await repository.lock_stored(session, received) if received else []
    known = {(one.provider, one.fingerprint): one.id for one in reversed(stored) if one.organisation_id is not None}
    unmatched = {(one.provider, one.fingerprint): one.id for one in stored if one.organisation_id is None}
    matched: dict[int, int] = {}
    new: list[ReceivedMessage] = []
    again: dict[int, int] = {}
    for one in received:
        key = (one.provider, one.fingerprint)
        if key in known:
            matched[one.event_id] = known[key]
            continue
        new.append(one)
        if key in unmatched:
            again[one.event_id] = unmatched[key]
    owners = await _find_owners(session, new, policy)
    await _add_unmatched(session, [one for one in new if one.event_id not in owners and one.event_id not in again])
    messages = await _add_matched(session, new, owners, stored=again, policy=policy)
    return matched | {message.received.event_id: message.id for message in messages if not message.is_copy}


async def match_unmatched(
    session: AsyncSession, policy: InboundPolicy, choice: UnmatchedChoice, after: int, batch: int
) -> tuple[int, int | None]:
    """Find the organisations of at most `batch` stored messages that matched none, and act on their keywords.

    `after` is the last id of the batch before, 0 at first. Return how many have an organisation now, and the last id of
    this batch, or None after the last batch. No auto-reply is sent, because the messages may be old.
    """
    rows = await repository.lock_unmatched_all_tenants(session, choice, after, batch)
    received = [received_again(row) for row in rows]
    owners = await _find_owners(session, received, policy)
    await _add_matched(session, received, owners, stored={row.id: row.id for row in rows}, policy=None)
    return len(owners), rows[-1].id if len(rows) == batch else None


async def list_unmatched(session: AsyncSession, choice: UnmatchedChoice, limit: int) -> list[UnmatchedMessage]:
    """Return the newest inbound messages that match no organisation. The session must see all organisations."""
    return await repository.list_unmatched_all_tenants(session, choice, limit)


async def count_unmatched(session: AsyncSession, choice: UnmatchedChoice) -> UnmatchedCount:
    """Count the inbound messages that match no organisation. The session must see all organisations."""
    return await repository.count_unmatched_all_tenants(session, choice)


async def _find_owners(session: AsyncSession, received: Sequence[ReceivedMessage], policy: InboundPolicy) -> Owners:
    """Return the organisations of the messages for which there is one."""
    answering = [one for one in received if one.answered_id is not None]
    answered = await repository.find_owners(session, answering) if answering else {}
    others = [one for one in received if one.event_id not in answered or one.maybe_stop]
    earlier = await repository.list_earlier(session, others) if others else {}
    assigned = await sender_ids.sender_id_owners(session, {one.sender_key for one in others}) if others else {}
    owners: dict[int, Sequence[Owner]] = {event_id: [owner] for event_id, owner in answered.items()}
    for one in others:
        assigned_to = policy.assigned_to(one.sender_key, assigned)
        chosen = choose_owners(one, answered.get(one.event_id), earlier.get(one.event_id, []), assigned_to)
        if chosen:
            owners[one.event_id] = chosen
    return owners


async def _add_unmatched(session: AsyncSession, received: Sequence[ReceivedMessage]) -> None:
    """Store messages that match no organisation. They are matched again later, and the operator can list them."""
    if not received:
        return
    ids = await repository.next_ids(session, len(received))
    rows = [
        (message_id, one, find_keyword(one.message, (), is_opted_out=False))
        for message_id, one in zip(ids, received, strict=True)
    ]
    await repository.add_unmatched(session, rows)
    opt_out_count = sum(keyword == "stop" for _, _, keyword in rows)
    log.warning("inbound messages unmatched", count=len(rows), opt_outs=opt_out_count)


async def _add_matched(
    session: AsyncSession,
    received: Sequence[ReceivedMessage],
    owners: Owners,
    *,
    stored: Mapping[int, int],
    policy: InboundPolicy | None,
) -> list[OwnedMessage]:
    """Store the messages whose organisation is known, publish them, and act on their keywords.

    `stored` is event id → id of the message that is stored without an organisation. Without a policy no auto-reply is
    sent.
    """
    owned = sorted((one for one in received if one.event_id in owners), key=lambda one: one.received_at)
    if not owned:
        return []
    configured = await _read_configs(session, owners)
    messages = await _read_keywords(session, owned, owners, configured=configured, stored=stored)
    await repository.set_owners(session, (message for message in messages if message.is_stored))
    await repository.add(session, (message for message in messages if not message.is_stored))
    await publish(session, [_event(message) for message in messages])
    effective = await opt_outs.apply_opt_out_changes(
        session, [_opt_out_change(message) for message in messages if message.keyword in ("stop", "start")]
    )
    if policy is not None:
        answered = _choose_answered(messages, {change.message_id for change in effective}, policy)
        await _queue_auto_replies(session, answered, configured)
    return messages


def _choose_answered(
    messages: Sequence[OwnedMessage], effective: Collection[int | None], policy: InboundPolicy
) -> list[OwnedMessage]:
    """Return the messages that get an auto-reply: HELP, and STOP and START that changed something.

    A STOP that counts for several organisations gets one.
    """
    answered: dict[int, OwnedMessage] = {}
    for message in messages:
        if message.received.provider in policy.handled_by_provider:
            continue
        if message.keyword == "help" or message.id in effective:
            answered.setdefault(message.received.event_id, message)
    return list(answered.values())


async def _read_configs(session: AsyncSession, owners: Owners) -> Configs:
    organisations = {owner.organisation_id for listed in owners.values() for owner in listed}
    configured: dict[str, dict[str, str]] = {organisation: {} for organisation in organisations}
    values = await configs.config_values(session, organisations, _CONFIG_NAMES)
    for (organisation, name), value in values.items():
        configured[organisation][name] = value
    return configured


async def _read_keywords(
    session: AsyncSession,
    received: Sequence[ReceivedMessage],
    owners: Owners,
    *,
    configured: Configs,
    stored: Mapping[int, int],
) -> list[OwnedMessage]:
    """Read the keywords of messages, the oldest first, because YES means START only after a STOP.

    A message for several organisations is stored for the first one. The others get a copy if it is a STOP.
    """
    numbers = {
        (owners[one.event_id][0].organisation_id, one.phone)
        for one in received
        if normalise_keyword(one.message.text) == "yes"
    }
    opted_out = await opt_outs.find_opted_out(session, numbers)
    found: list[OwnedMessage] = []
    for one in received:
        for owner in owners[one.event_id]:
            is_copy = owner is not owners[one.event_id][0]
            number = (owner.organisation_id, one.phone)
            keywords_off = STOP_WORDS_OFF.parse(configured[owner.organisation_id].get(STOP_WORDS_OFF.name, ""))
            keyword = find_keyword(one.message, keywords_off, number in opted_out)
            if is_copy and keyword != "stop":
                continue
            if keyword == "stop":
                opted_out.add(number)
            elif keyword == "start":
                opted_out.discard(number)
            stored_id = None if is_copy else stored.get(one.event_id)
            found.append(
                OwnedMessage(
                    id=stored_id or 0,
                    received=one,
                    owner=owner,
                    keyword=keyword,
                    is_stored=stored_id is not None,
                    is_copy=is_copy,
                )
            )
    ids = iter(await repository.next_ids(session, sum(not message.is_stored for message in found)))
    return [message if message.is_stored else replace(message, id=next(ids)) for message in found]


def _event(message: OwnedMessage) -> MessageReceived:
    return MessageReceived(
        organisation_id=message.owner.organisation_id,
        request_id=message.received.request_id,
        traceparent=message.received.traceparent,
        message_id=message.id,
        phone=message.received.phone,
        to=message.received.to,
        text=message.text,
        received_at=message.received.received_at,
        contact_id=message.owner.contact_id,
        schedule_id=message.owner.schedule_id,
        keyword=message.keyword,
        media_urls=message.media_urls,
    )


def _opt_out_change(message: OwnedMessage) -> OptOutChange:
    return OptOutChange(
        organisation_id=message.owner.organisation_id,
        phone=message.received.phone,
        opted_out=message.keyword == "stop",
        at=message.received.received_at,
        source="reply",
        message_id=message.id,
        request_id=message.received.request_id,
    )


async def _queue_auto_replies(session: AsyncSession, messages: Sequence[OwnedMessage], configured: Configs) -> None:
    """Queue the auto-replies: one a day for each phone and keyword, and none that exceeds the limit."""
    texts: dict[tuple[str, str, str], tuple[OwnedMessage, str]] = {}
    for message in messages:
        organisation, phone = message.number
        if message.keyword is None or not is_mobile(phone):
            continue
        reply_text = auto_reply_text(message.keyword, configured[organisation])
        if reply_text is not None:
            texts.setdefault((organisation, phone, message.keyword), (message, reply_text))
    if not texts:
        return
    replied = await repository.find_replied_today(session, texts)
    wanted = [reply for key, reply in texts.items() if key not in replied]
    now = datetime.now(UTC)
    periods = await limits.periods(session, [(message.owner.organisation_id, now) for message, _ in wanted])
    replies = [
        AutoReply(
            organisation_id=message.owner.organisation_id,
            contact_id=message.owner.contact_id,
            phone=message.received.phone,
            text=reply_text,
            parts=measure(reply_text).parts,
            period=period,
            request_id=message.received.request_id,
            traceparent=message.received.traceparent,
            auto_reply_to=message.id,
        )
        for (message, reply_text), period in zip(wanted, periods, strict=True)
    ]
    fitting = await limits.take_sms_parts(
        session, [(reply.organisation_id, reply.period, reply.parts) for reply in replies]
    )
    granted = [reply for reply, fits in zip(replies, fitting, strict=True) if fits]
    await outbound.add_auto_replies(session, granted)
