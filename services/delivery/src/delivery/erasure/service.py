"""Erase a person's messages: content and phone leave, rows and usage stay. An operator starts it."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from delivery.erasure import repository
from delivery.messages import service as messages
from delivery.opt_outs import service as opt_outs
from delivery.opt_outs.rules import OptOutChange


class Found(NamedTuple):
    """The ids of a person's messages."""

    messages: Sequence[int]
    inbound: Sequence[int]


class Erased(NamedTuple):
    """How many messages were erased, how many of them were failed before they were submitted, and webhook events."""

    messages: int
    cancelled: int
    webhook_events: int


async def find_messages(
    session: AsyncSession, phone: str, organisation: str | None, contacts: Collection[tuple[str, int]]
) -> Found:
    """Return the messages to and from a phone, or of these (organisation, contact). None means all organisations."""
    return Found(
        messages=await repository.find_messages_all_tenants(session, phone, organisation, contacts),
        inbound=await repository.find_inbound_all_tenants(session, phone, organisation, contacts),
    )


async def erase_messages(session: AsyncSession, ids: Collection[int]) -> Erased:
    """Fail those of the messages that wait, then erase the final ones. Those in a submission stay as they are."""
    waiting = await repository.lock_waiting_all_tenants(session, ids)
    if waiting:
        await messages.fail(session, dict.fromkeys(waiting, "opted_out"))
    erased, events = await repository.erase_messages_all_tenants(session, ids)
    return Erased(messages=erased, cancelled=len(waiting), webhook_events=events)


async def erase_inbound(session: AsyncSession, ids: Collection[int]) -> Erased:
    """Erase inbound messages."""
    erased, events = await repository.erase_inbound_all_tenants(session, ids)
    return Erased(messages=erased, cancelled=0, webhook_events=events)


async def keep_opt_outs(session: AsyncSession, phone: str, organisations: Collection[str]) -> None:
    """Opt the phone out at organisations whose contact opted out, because the contact will not have the phone."""
    now = datetime.now(UTC)
    await opt_outs.apply_opt_out_changes(
        session,
        [
            OptOutChange(organisation_id=organisation, phone=phone, opted_out=True, at=now, source="reply")
            for organisation in sorted(set(organisations))
        ],
    )
