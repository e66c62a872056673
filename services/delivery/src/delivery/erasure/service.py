"""Erase a person's messages: content and phone leave, rows, usage and opt-outs stay. An operator starts it."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from delivery.erasure import repository
from delivery.messages import service as messages
from delivery.opt_outs.rules import ErasedOptOut


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


async def erase_opt_outs(
    session: AsyncSession, phone: str, organisation: str | None, organisations_with_opt_out: Collection[str]
) -> list[ErasedOptOut]:
    """Replace the phone of its opt-outs by a hash, which still refuses messages to the phone. Return the opt-outs.

    `organisations_with_opt_out` are those whose contact with the phone opted out. Nothing is published, because an
    event has the phone: the caller gives the opt-outs to contacts.
    """
    return await repository.erase_opt_outs_all_tenants(session, phone, organisation, organisations_with_opt_out)
