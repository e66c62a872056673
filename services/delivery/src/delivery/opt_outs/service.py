"""Use cases of opt-outs: numbers and contacts that an organisation must not message."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from common.events import ContactChanged, ContactState, OptOutChanged
from common.outbox import publish
from common.versions import newest
from delivery.opt_outs import repository
from delivery.opt_outs.rules import Number, OptOutChange, OptOutRow, OptOutState, apply_changes


async def apply_opt_out_changes(session: AsyncSession, changes: Iterable[OptOutChange]) -> list[OptOutChange]:
    """Apply changes of numbers, publish OptOutChanged for the numbers that changed, return the effective changes.

    The phone of an erased opt-out is stored again only when the number opts in.
    """
    by_number: dict[Number, list[OptOutChange]] = {}
    for change in changes:
        by_number.setdefault((change.organisation_id, change.phone), []).append(change)
    if not by_number:
        return []
    old = await repository.lock(session, by_number)
    effective: list[OptOutChange] = []
    new: dict[Number, OptOutState] = {}
    for number, of_number in by_number.items():
        new[number], changed = apply_changes(old[number], of_number)
        effective += changed
    different = {
        number: state.changed_by
        for number, state in new.items()
        if state.changed_by is not None and state.opted_out != old[number].opted_out
    }
    restored = [number for number in different if old[number].is_erased]
    if restored:
        await repository.restore(session, restored)
    newer = {number: state for number, state in new.items() if state.at != old[number].at}
    if newer:
        await repository.save_times(session, newer)
    await _change(session, different.values())
    return effective


async def _change(session: AsyncSession, changes: Collection[OptOutChange]) -> None:
    if not changes:
        return
    request_ids = {(change.organisation_id, change.phone): change.request_id for change in changes}
    rows = await repository.change(session, changes)
    await publish(session, [_event(row, request_ids[row.organisation_id, row.phone]) for row in rows])


def _event(row: OptOutRow, request_id: str) -> OptOutChanged:
    return OptOutChanged(
        organisation_id=row.organisation_id,
        request_id=request_id,
        phone=row.phone,
        opted_out=row.opted_out,
        changed_at=row.changed_at,
        source=row.source,
        message_id=row.message_id,
        version=row.version,
    )


async def add_provider_opt_outs(session: AsyncSession, numbers: Collection[Number]) -> None:
    """Opt these (organisation, phone) out, because a provider refused them as opted out."""
    now = datetime.now(UTC)
    await apply_opt_out_changes(
        session,
        [
            OptOutChange(organisation_id=organisation, phone=phone, opted_out=True, at=now, source="provider")
            for organisation, phone in numbers
        ],
    )


async def confirm_opt_ins(session: AsyncSession, confirmations: Iterable[tuple[str, str, datetime]]) -> None:
    """Opt numbers back in, because a person confirmed it: (organisation, phone, time of the confirmation).

    A confirmation that is older than the opt-out changes nothing.
    """
    await apply_opt_out_changes(
        session,
        [
            OptOutChange(organisation_id=organisation, phone=phone, opted_out=False, at=at, source="confirmed")
            for organisation, phone, at in confirmations
        ],
    )


async def find_opted_out(session: AsyncSession, numbers: Collection[Number]) -> set[Number]:
    """Return those of the (organisation, phone) that are opted out."""
    return await repository.find_opted_out(session, numbers) if numbers else set()


async def count_opted_out(session: AsyncSession) -> int:
    """Return how many phones are opted out at the organisation of a tenant session."""
    return await repository.count_opted_out(session)


async def apply_contact_changes(session: AsyncSession, events: Sequence[ContactChanged]) -> None:
    """Save the opt-out of each contact of these events."""
    await save_contacts(session, [(event.organisation_id, contact) for event in events for contact in event.contacts])


async def save_contacts(session: AsyncSession, contacts: Sequence[tuple[str, ContactState]]) -> None:
    """Save the opt-out of each (organisation, contact) in its newest version.

    A confirmed opt-in also opts the contact's number in.
    """
    latest = newest(contacts, key=lambda item: (item[0], item[1].contact_id), version=lambda item: item[1].version)
    await repository.save_contacts(session, list(latest.values()))
    await confirm_opt_ins(
        session,
        [
            (organisation, contact.phone, contact.opt_in_confirmed_at)
            for organisation, contact in contacts
            if contact.opt_in_confirmed_at is not None and not contact.opt_out
        ],
    )


async def republish_opt_outs(
    session: AsyncSession, since: datetime, after: tuple[str, str], batch: int
) -> tuple[str, str] | None:
    """Publish OptOutChanged again for at most `batch` numbers that changed since then.

    `after` is the last (phone, organisation) of the batch before, two "" at first. Return the last one of this batch,
    or None after the last batch.
    """
    rows = await repository.changed_since_all_tenants(session, since, after, batch)
    await publish(session, [_event(row, "") for row in rows])
    return (rows[-1].phone, rows[-1].organisation_id) if len(rows) == batch else None
