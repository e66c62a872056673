"""Use cases of replies: keep what came in, let STOP and START act, answer them and HELP."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from common.events import MessageReceived
from common.outbox import publish
from common.phones import InvalidPhone, normalise_phone
from common.sms import measure
from delivery.limits import service as limits
from delivery.inbound import repository
from delivery.inbound.rules import (
    ANSWERS,
    OFF,
    WORDS_OFF,
    KeptReply,
    Owner,
    Reply,
    ReplyPolicy,
    choose_owner,
    read_keyword,
    read_word,
    read_words_off,
)
from delivery.opt_outs import service as stops

__all__ = ["Reply", "ReplyPolicy", "take_in"]

_CONFIGS = (WORDS_OFF, *(name for name, _ in ANSWERS.values()))
Configs = Mapping[tuple[str, str], str]


async def take_in(session: AsyncSession, replies: Sequence[Reply], policy: ReplyPolicy) -> dict[int, int]:
    """Keeps the replies whose organisation is found, with all that follows: notice id → id of the message."""
    owners = await _find_owners(session, replies, policy)
    if not owners:
        return {}
    configs = await limits.config_values(session, {owner.organisation_id for owner in owners.values()}, _CONFIGS)
    found = sorted((reply for reply in replies if reply.notice_id in owners), key=lambda reply: reply.received_at)
    kept = await _read(session, found, owners, configs)
    await repository.add(session, kept)
    await publish(session, [_event(one) for one in kept])
    words = [
        stops.Word(
            organisation_id=one.owner.organisation_id,
            phone=one.reply.phone,
            stopped=one.keyword == "stop",
            at=one.reply.received_at,
            source="reply",
            message_id=one.id,
            request_id=one.reply.request_id,
        )
        for one in kept
        if one.keyword in ("stop", "start")
    ]
    changing = {word.message_id for word in await stops.hear_words(session, words)}
    wanting = [one for one in kept if one.keyword == "help" or one.id in changing]
    await _answer(session, [one for one in wanting if one.reply.provider not in policy.answered_by], configs)
    return {one.reply.notice_id: one.id for one in kept}


async def _find_owners(session: AsyncSession, replies: Sequence[Reply], policy: ReplyPolicy) -> dict[int, Owner]:
    """ProviderEvent id → whose the reply is, where that is known."""
    naming = [reply for reply in replies if reply.answered is not None]
    owners = await repository.answered(session, naming) if naming else {}
    open_ones = [reply for reply in replies if reply.notice_id not in owners]
    if open_ones:
        candidates = await repository.candidates(session, open_ones)
        assigned = await limits.sender_owners(session, {reply.to for reply in open_ones})
        for reply in open_ones:
            known = candidates.get((reply.phone, reply.provider), [])
            owner = choose_owner(reply.to, known, assigned, policy.own_numbers)
            if owner is not None:
                owners[reply.notice_id] = owner
    return owners


async def _read(
    session: AsyncSession, replies: Sequence[Reply], owners: Mapping[int, Owner], configs: Configs
) -> list[KeptReply]:
    """What the replies mean, the oldest first: a YES means START where there is a stop by then."""
    numbers = {
        (owners[reply.notice_id].organisation_id, reply.phone)
        for reply in replies
        if read_word(reply.inbound.text) == "yes"
    }
    stopped = await stops.find_stopped(session, numbers)
    kept = []
    for message_id, reply in zip(await repository.next_ids(session, len(replies)), replies, strict=True):
        owner = owners[reply.notice_id]
        words_off = read_words_off(configs.get((owner.organisation_id, WORDS_OFF)))
        number = (owner.organisation_id, reply.phone)
        keyword = read_keyword(reply.inbound, words_off, number in stopped)
        if keyword == "stop":
            stopped.add(number)
        elif keyword == "start":
            stopped.discard(number)
        kept.append(KeptReply(message_id, reply, owner, keyword))
    return kept


def _event(one: KeptReply) -> MessageReceived:
    return MessageReceived(
        organisation_id=one.owner.organisation_id,
        request_id=one.reply.request_id,
        message_id=one.id,
        phone=one.reply.phone,
        to=one.reply.to,
        text=one.reply.inbound.text,
        received_at=one.reply.received_at,
        contact_id=one.owner.contact_id,
        schedule_id=one.owner.schedule_id,
        keyword=one.keyword,
        media_urls=one.reply.inbound.media_urls,
    )


async def _answer(session: AsyncSession, wanting: Sequence[KeptReply], configs: Configs) -> None:
    """Queues an answer to each, at most one a day for each phone and keyword, and none over the limit."""
    texts: dict[tuple[str, str, str], tuple[KeptReply, str]] = {}
    for one in wanting:
        organisation, phone = one.number
        if one.keyword is not None and _is_mobile(phone):
            name, default = ANSWERS[one.keyword]
            told = configs.get((organisation, name), default)
            if told.strip().lower() != OFF:
                texts.setdefault((organisation, phone, one.keyword), (one, told))
    if not texts:
        return
    done = await repository.answered_today(session, texts)
    answers = [(one, told, measure(told).parts) for key, (one, told) in texts.items() if key not in done]
    now = datetime.now(UTC)
    periods = await limits.periods(session, [(one.owner.organisation_id, now) for one, _, _ in answers])
    granted = await limits.take_sms_places(
        session,
        [(one.owner.organisation_id, period, parts) for (one, _, parts), period in zip(answers, periods, strict=True)],
    )
    going = [(*answer, period) for answer, period, fits in zip(answers, periods, granted, strict=True) if fits]
    if going:
        await repository.add_answers(session, going)


def _is_mobile(phone: str) -> bool:
    try:
        return normalise_phone(phone) == phone
    except InvalidPhone:
        return False
