"""What can be done with contacts. Whoever calls has begun the transaction, and commits."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, BinaryIO

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.errors import Invalid, NotFound
from common.events import ContactChanged, ContactState, OptOutChanged
from common.outbox import publish
from common.paging import Page, Paginated, Pagination
from contacts.contacts import repository, rules
from contacts.contacts.imports import FIELDS, Batch, ContactsFile, Problem
from contacts.contacts.schemas import ContactOut, ImportOptions, ImportOut, ImportProblem
from contacts.errors import NumberOptedOut, PhoneTaken

Contact = ContactOut  # what groups show of their members

IMPORT_BATCH = 1000
_MAX_ERRORS = 1000


async def list_contacts(
    session: AsyncSession, page: Page, *, search: str, exclude_group_id: int | None
) -> Paginated[ContactOut]:
    """A page of the active contacts. Raises NotFound for a group that does not exist."""
    patterns = rules.search_patterns(search)
    if exclude_group_id is not None and await repository.find_group(session, exclude_group_id) is None:
        raise NotFound
    rows, total = await repository.page(session, page, patterns=patterns, exclude_group_id=exclude_group_id)
    return _paginated(rows, total, page)


async def list_members(session: AsyncSession, page: Page, group_id: int, total: int) -> Paginated[ContactOut]:
    """A page of a group's active members, of whom there are `total`, by name."""
    return _paginated(await repository.page_of_group(session, page, group_id), total, page)


def _paginated(rows: Sequence[Any], total: int, page: Page) -> Paginated[ContactOut]:
    shown = [ContactOut.model_validate(dict(zip(row._fields, row, strict=True))) for row in rows]
    return Paginated(results=shown, pagination=Pagination.of(page, total))


async def get_contact(session: AsyncSession, contact_id: int) -> ContactOut:
    """One contact, active or not. Raises NotFound."""
    return ContactOut.model_validate(await repository.get(session, contact_id))


async def create_contact(session: AsyncSession, caller: Caller, given: Mapping[str, Any]) -> ContactOut:
    """Adds a contact, or brings the deleted one with this phone back. Raises PhoneTaken, or as `user` demands.

    One whose number opted_out is born opted out, whatever was given.
    """
    values = _columns(given)
    await _check_user(session, values.get("user_id"))
    stop = await repository.find_opt_out(session, values["phone"])
    if stop is not None:
        values |= rules.opt_out_columns(stop)
    elif "opt_out" in values:
        values |= rules.opt_out_fields(False, values["opt_out"], datetime.now(UTC))
    row = await repository.add(session, values, caller.user_id)
    if row.version > 1 or row.opt_out:
        await tell(session, [row.id])
    return ContactOut.model_validate(row)


async def update_contact(
    session: AsyncSession, caller: Caller, contact_id: int, changes: Mapping[str, Any]
) -> ContactOut:
    """Changes a contact. Raises NotFound, PhoneTaken, NumberOptedOut, or as `user` demands."""
    row = await repository.get(session, contact_id, lock=True)
    before, values = dict(row._mapping), _columns(changes)
    confirmed = values.pop("confirm_opt_in", False)
    if values.get("user_id") != before["user_id"]:
        await _check_user(session, values.get("user_id"))
    if values.get("phone", before["phone"]) != before["phone"]:
        values["opt_in_confirmed_at"] = None  # it was for the number of then
    values |= await _opt_out_fields(session, before, values.pop("opt_out", None), values.get("phone"), confirmed)
    told = rules.must_publish(before, values)
    if told:
        values["version"] = before["version"] + 1
    row = await repository.change(session, contact_id, values, caller.user_id)
    if told:
        await tell(session, [contact_id])
    return ContactOut.model_validate(row)


async def _opt_out_fields(
    session: AsyncSession, before: Mapping[str, Any], wanted: bool | None, phone: str | None, confirmed: bool
) -> dict[str, Any]:
    """What becomes of a contact's opt-out when `opt_out` (None: not named) and perhaps the phone change.

    A number that opted_out opts its contact out, and is not lifted by hand unless a new consent is `confirmed`: then
    delivery, which keeps opt_outs of its own, hears when. Raises NumberOptedOut.
    """
    now = datetime.now(UTC)
    if wanted or (wanted is None and phone in (None, before["phone"])):
        return rules.opt_out_fields(before["opt_out"], True, now) if wanted else {}
    phone = phone or before["phone"]
    stop = await repository.find_opt_out(session, phone)
    if stop is None:
        return {} if wanted is None else rules.opt_out_fields(before["opt_out"], False, now)
    if wanted is None:
        return {} if before["opt_out"] else rules.opt_out_columns(stop)
    if not confirmed:
        raise NumberOptedOut
    await repository.withdraw_opt_out(session, phone, now)
    return {**rules.opt_out_fields(before["opt_out"], False, now), "opt_in_confirmed_at": now}


async def delete_contact(session: AsyncSession, caller: Caller, contact_id: int) -> None:
    """Soft-deletes a contact; a deleted one stays so. Raises NotFound."""
    if (await repository.get(session, contact_id, lock=True)).is_active:
        await update_contact(session, caller, contact_id, {"is_active": False})


def _columns(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"user_id" if name == "user" else name: value for name, value in given.items()}


async def _check_user(session: AsyncSession, user_id: int | None) -> None:
    if user_id is None:
        return
    is_member = await repository.find_membership(session, user_id)
    if is_member is None:
        raise NotFound
    if not is_member:
        raise Invalid.field("user", "This user is no longer a member.")


async def tell(session: AsyncSession, contact_ids: Sequence[int]) -> None:
    """Publishes the contacts as they are now."""
    await _publish(session, await repository.states(session, contact_ids))


async def _publish(session: AsyncSession, states: Sequence[tuple[str, ContactState]]) -> None:
    of: dict[str, list[ContactState]] = {}
    for organisation_id, state in states:
        of.setdefault(organisation_id, []).append(state)
    size = ContactChanged.MAX_CONTACTS
    events = [
        ContactChanged(organisation_id=organisation_id, contacts=tuple(found[start : start + size]))
        for organisation_id, found in of.items()
        for start in range(0, len(found), size)
    ]
    await publish(session, events)


async def republish_contacts(session: AsyncSession, since: datetime, after_id: int, batch: int) -> int | None:
    """Publishes again, across all organisations, a batch of the contacts that others heard of since then.

    `after_id` is where the last batch ended, 0 at first; returns where this one did, None when there is no more.
    """
    states = await repository.list_changed_since_all_tenants(session, since, after_id, batch)
    await _publish(session, states)
    return states[-1][1].contact_id if len(states) == batch else None


async def apply_opt_out_changes(session: AsyncSession, events: Sequence[OptOutChanged]) -> None:
    """Keeps the newest word on each number; contacts with it are opted out, or in again."""
    newest: dict[tuple[str, str], OptOutChanged] = {}
    for event in events:
        key = (event.phone, event.organisation_id)
        if key not in newest or newest[key].version < event.version:
            newest[key] = event
    await repository.save_opt_outs_all_tenants(session, [newest[key] for key in sorted(newest)])
    await apply_opt_outs(session)


async def apply_opt_outs(session: AsyncSession) -> bool:
    """Brings contacts to what was heard of their numbers lately. Returns whether there was any to bring."""
    changed = await repository.apply_opt_outs_all_tenants(session)
    if changed:
        await tell(session, changed)
    return bool(changed)


async def require_active(session: AsyncSession, contact_ids: Sequence[int], field: str) -> None:
    """Raises NotFound for an id that does not exist here, Invalid under `field` for a deleted contact."""
    found = await repository.activity(session, contact_ids)
    if len(found) < len(set(contact_ids)):
        raise NotFound
    gone = sorted(contact_id for contact_id, is_active in found.items() if not is_active)
    if gone:
        raise Invalid.field(field, f"These contacts were deleted: {', '.join(map(str, gone[:20]))}.")


async def get_state(session: AsyncSession, contact_id: int) -> ContactState:
    """A contact as others keep it. Raises NotFound."""
    states = await repository.states(session, [contact_id])
    if not states:
        raise NotFound
    return states[0][1]


async def find_recipient(
    session: AsyncSession, contact_id: int | None, phone: str | None
) -> tuple[ContactState | None, str, str | None]:
    """Contact, phone and why no message may go there (`opted_out`, `inactive`, or None). Raises NotFound, Invalid.

    An opt-out of the contact or of whoever has the phone refuses, also after that contact was deleted; so does a phone
    that opted_out, whoever has it.
    """
    if contact_id is None and phone is None:
        raise Invalid("Name a contact or a phone number.")
    found, opted_out = await repository.recipients(session, contact_id, phone)
    named = next((state for state in found if state.contact_id == contact_id), None)
    if contact_id is not None and named is None:
        raise NotFound
    contact = named or next((state for state in found if state.is_active), None)
    refused = None
    if opted_out or any(state.opt_out for state in found):
        refused = "opted_out"
    elif named is not None and not named.is_active:
        refused = "inactive"
    return contact, phone or (contact.phone if contact else ""), refused


async def list_eligible(
    session: AsyncSession, group_id: int, after: int, limit: int, joined_before: datetime | None
) -> list[ContactState]:
    """Members of a group who may be written to, by id."""
    return await repository.eligible_members(session, group_id, after, limit, joined_before)


async def deactivate_all(session: AsyncSession, organisation_id: str) -> None:
    """Soft-deletes all contacts of a closed organisation; that it closed is what others are told."""
    await repository.deactivate_all(session, organisation_id)


async def import_contacts(session: AsyncSession, caller: Caller, file: BinaryIO, options: ImportOptions) -> ImportOut:
    """Takes in every good row of a CSV file and tells what is wrong with the others. Raises NotCsv, NotFound, Invalid.

    Reading is left to a thread, a batch at a time, so that other requests are answered meanwhile.
    """
    contacts_file = await asyncio.to_thread(ContactsFile, file)
    await _check_group(session, options.group_id)
    await repository.begin_import(session)
    trial = await session.begin_nested() if options.dry_run else None
    out = ImportOut(total=0, imported=0, updated=0 if options.update_existing else None, failed=0, errors=[])
    async with aclosing(_batches(contacts_file)) as batches:
        async for batch in batches:
            refused = await _write_batch(session, caller, batch, options, out)
            out.total += batch.total
            out.failed += batch.failed + len(refused)
            told = sorted(batch.problems + refused, key=lambda problem: problem.row)
            out.errors += [ImportProblem.model_validate(problem) for problem in told[: _MAX_ERRORS - len(out.errors)]]
    if trial is not None:
        await trial.rollback()
    return out


async def _batches(contacts_file: ContactsFile) -> AsyncGenerator[Batch, None]:
    """The file's batches; the next one is read while the database works on the last."""
    reading = asyncio.ensure_future(asyncio.to_thread(contacts_file.next_batch, IMPORT_BATCH))
    try:
        while (batch := await reading) is not None:
            reading = asyncio.ensure_future(asyncio.to_thread(contacts_file.next_batch, IMPORT_BATCH))
            yield batch
    finally:
        await asyncio.gather(reading, return_exceptions=True)  # a thread that reads the file cannot be stopped


async def _check_group(session: AsyncSession, group_id: int | None) -> None:
    if group_id is None:
        return
    is_active = await repository.find_group(session, group_id)
    if is_active is None:
        raise NotFound
    if not is_active:
        raise Invalid.field("group_id", "This group was deleted.")


async def _write_batch(
    session: AsyncSession, caller: Caller, batch: Batch, options: ImportOptions, out: ImportOut
) -> list[Problem]:
    """Writes a batch and counts in `out` what went in; returns what was refused."""
    first = {row.values[0]: row for row in reversed(batch.rows)}
    refused = [_twice(row.row, row.given) for row in batch.rows if first[row.values[0]] is not row]
    rows = {row.row: row for row in first.values()}
    if not rows:
        return refused
    columns = dict(zip(FIELDS, zip(*(row.values for row in rows.values()), strict=True), strict=True))
    outcomes = await repository.import_rows(
        session, {"row": list(rows), **columns}, caller.user_id, update_existing=options.update_existing
    )
    for outcome in outcomes:
        if outcome.id is None and outcome.in_file:
            refused.append(_twice(outcome.row, rows[outcome.row].given))
        elif outcome.id is None:
            refused.append(Problem(outcome.row, "phone", rows[outcome.row].given, PhoneTaken.sentence))
        elif outcome.was_active:
            out.updated = (out.updated or 0) + 1
        else:
            out.imported += 1
    taken = [outcome.id for outcome in outcomes if outcome.id is not None]
    if options.group_id is not None and taken:
        await repository.join_group(session, options.group_id, taken)
    told = [
        outcome.id
        for outcome in outcomes
        if outcome.id is not None and (outcome.was_active is not None or outcome.opt_out)
    ]
    if told:
        await tell(session, told)
    return refused


def _twice(row: int, given: str) -> Problem:
    return Problem(row, "phone", given, "This phone number is in the file more than once.")
