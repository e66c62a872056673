"""Use cases of inbound messages: store them, apply STOP and START, and queue auto-replies."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

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
    auto_reply_text,
    choose_owner,
    find_keyword,
    is_mobile,
    normalise_keyword,
)
from delivery.limits import service as limits
from delivery.messages import service as outbound
from delivery.messages.rules import AutoReply
from delivery.opt_outs import service as opt_outs
from delivery.opt_outs.rules import OptOutChange
from delivery.sender_ids import service as sender_ids

_CONFIG_NAMES = (STOP_WORDS_OFF.name, *(spec.name for spec, _ in AUTO_REPLIES.values()))
Configs = Mapping[str, Mapping[str, str]]  # organisation → name → value


async def add_inbound_messages(
    session: AsyncSession, received: Sequence[ReceivedMessage], policy: InboundPolicy
) -> dict[int, int]:
    """Store the messages whose organisation is known, publish them, and act on their keywords.

    Return event id → id of the stored message.
    """
    owners = await _find_owners(session, received, policy)
    if not owners:
        return {}
    configured = await _read_configs(session, owners)
    owned = sorted((one for one in received if one.event_id in owners), key=lambda one: one.received_at)
    messages = await _read_keywords(session, owned, owners, configured)
    await repository.add(session, messages)
    await publish(session, [_event(message) for message in messages])
    effective = await opt_outs.apply_opt_out_changes(
        session, [_opt_out_change(message) for message in messages if message.keyword in ("stop", "start")]
    )
    effective_message_ids = {change.message_id for change in effective}
    await _queue_auto_replies(
        session,
        [
            message
            for message in messages
            if (message.keyword == "help" or message.id in effective_message_ids)
            and message.received.provider not in policy.handled_by_provider
        ],
        configured,
    )
    return {message.received.event_id: message.id for message in messages}


async def _find_owners(
    session: AsyncSession, received: Sequence[ReceivedMessage], policy: InboundPolicy
) -> dict[int, Owner]:
    """Return event id → owner, for the messages whose organisation is known."""
    answering = [one for one in received if one.answered_id is not None]
    owners = await repository.find_owners(session, answering) if answering else {}
    others = [one for one in received if one.event_id not in owners]
    if others:
        earlier = await repository.list_earlier(session, others)
        assigned = await sender_ids.sender_id_owners(session, {one.to for one in others})
        for one in others:
            candidates = earlier.get((one.phone, one.provider), [])
            owner = choose_owner(one.to, candidates, assigned, policy.default_sender_ids)
            if owner is not None:
                owners[one.event_id] = owner
    return owners


async def _read_configs(session: AsyncSession, owners: Mapping[int, Owner]) -> Configs:
    organisations = {owner.organisation_id for owner in owners.values()}
    configured: dict[str, dict[str, str]] = {organisation: {} for organisation in organisations}
    values = await configs.config_values(session, organisations, _CONFIG_NAMES)
    for (organisation, name), value in values.items():
        configured[organisation][name] = value
    return configured


async def _read_keywords(
    session: AsyncSession, received: Sequence[ReceivedMessage], owners: Mapping[int, Owner], configured: Configs
) -> list[OwnedMessage]:
    """Read the keywords of messages, the oldest first, because YES means START only after a STOP."""
    numbers = {
        (owners[one.event_id].organisation_id, one.phone)
        for one in received
        if normalise_keyword(one.message.text) == "yes"
    }
    opted_out = await opt_outs.find_opted_out(session, numbers)
    messages = []
    for message_id, one in zip(await repository.next_ids(session, len(received)), received, strict=True):
        owner = owners[one.event_id]
        number = (owner.organisation_id, one.phone)
        keywords_off = STOP_WORDS_OFF.parse(configured[owner.organisation_id].get(STOP_WORDS_OFF.name, ""))
        keyword = find_keyword(one.message, keywords_off, number in opted_out)
        if keyword == "stop":
            opted_out.add(number)
        elif keyword == "start":
            opted_out.discard(number)
        messages.append(OwnedMessage(message_id, one, owner, keyword))
    return messages


def _event(message: OwnedMessage) -> MessageReceived:
    return MessageReceived(
        organisation_id=message.owner.organisation_id,
        request_id=message.received.request_id,
        message_id=message.id,
        phone=message.received.phone,
        to=message.received.to,
        text=message.received.message.text,
        received_at=message.received.received_at,
        contact_id=message.owner.contact_id,
        schedule_id=message.owner.schedule_id,
        keyword=message.keyword,
        media_urls=message.received.message.media_urls,
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
            auto_reply_to=message.id,
        )
        for (message, reply_text), period in zip(wanted, periods, strict=True)
    ]
    fitting = await limits.take_sms_parts(
        session, [(reply.organisation_id, reply.period, reply.parts) for reply in replies]
    )
    granted = [reply for reply, fits in zip(replies, fitting, strict=True) if fits]
    await outbound.add_auto_replies(session, granted)
