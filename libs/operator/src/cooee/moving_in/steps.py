"""The steps of an import: each table in pages, through the use cases of the service that owns its rows."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from common import moved_rows
from common.moved_rows import OldId, Written
from contacts.moving_in import service as contacts
from cooee.moving_in import conversion
from cooee.moving_in.columns import SchedulePass
from cooee.moving_in.conversion import ImportContext, References
from cooee.moving_in.import_run import ImportRun
from cooee.moving_in.page_writer import PageWriter
from cooee.moving_in.source import Joined, Row
from delivery.moving_in import service as delivery
from scheduling.models import ScheduleKind
from scheduling.moving_in import service as scheduling

_KINDS = {
    ScheduleKind.SINGLE: scheduling.SCHEDULE,
    ScheduleKind.BATCH: scheduling.BATCH,
    ScheduleKind.BATCH_MESSAGE: scheduling.BATCH_MESSAGE,
}
# Two pages of messages of one batch at once would number them twice.
_AT_ONCE = {ScheduleKind.SINGLE: 2, ScheduleKind.BATCH: 2, ScheduleKind.BATCH_MESSAGE: 1}
ImportRows = Callable[..., Awaitable[Written]]


@dataclass(frozen=True)
class _Simple:
    """A table whose rows refer to users and organisations only, and the use case that imports them.

    `find_rejected` finds the rows that the import would reject, for a dry run.
    """

    role: str
    kind: str
    convert: Callable[[ImportContext, Row], Any]
    service: str
    write: ImportRows
    find_rejected: Callable[[Sequence[Any]], Written] | None = None


_CONTACTS = _Simple(
    role="contact",
    kind=contacts.CONTACT,
    convert=conversion.to_contact,
    service="contacts",
    write=contacts.import_contacts,
)
_GROUPS = _Simple(
    role="group",
    kind=contacts.GROUP,
    convert=conversion.to_group,
    service="contacts",
    write=contacts.import_groups,
)
_TEMPLATES = _Simple(
    role="template",
    kind=scheduling.TEMPLATE,
    convert=conversion.to_template,
    service="scheduling",
    write=scheduling.import_templates,
)
_CONFIGS = _Simple(
    role="config",
    kind=delivery.CONFIG,
    convert=conversion.to_config,
    service="delivery",
    write=delivery.import_configs,
    find_rejected=delivery.find_rejected,
)


async def import_simple(run: ImportRun, one: _Simple) -> None:
    """Import the contacts, groups, templates or configs."""
    table = run.system.table(one.role)
    async with run.progress(one.kind, table) as progress, PageWriter() as writer:
        async for page in run.source.pages(table, run.wanted):
            rows = run.convert(one.kind, page, partial(one.convert, run.context))
            await writer.write(partial(_write_simple, run, one, rows), partial(run.count, one.kind, rows))
            progress.add(len(page))


async def _write_simple(run: ImportRun, one: _Simple, rows: Sequence[Any]) -> Written:
    if run.is_dry_run and one.find_rejected is not None:
        return one.find_rejected(rows)
    return await _write(one.service, one.write, run, rows)


async def _write(service: str, write: ImportRows, run: ImportRun, rows: Sequence[Any]) -> Written:
    return await run.write(service, lambda session: write(session, run.system.name, rows))


async def import_members(run: ImportRun) -> None:
    """Import the members of groups, and remove those that the earlier system removed since the last run."""
    source, members = run.source, run.system.table("member")
    joined = Joined(
        columns="g.organisation_id, g.organisation_id AS group_organisation, c.organisation_id AS contact_organisation",
        joins=f"LEFT JOIN {source.relation(run.system.table('group'))} g ON g.id = t.group_id"
        f" LEFT JOIN {source.relation(run.system.table('contact'))} c ON c.id = t.contact_id",
    )
    after = -(2**63)
    async with run.progress(contacts.MEMBER, members) as progress, PageWriter() as writer:
        async for page in source.pages(members, run.wanted, joined, "g.organisation_id"):
            references = await _find_contacts_and_groups(run, page)
            rows = run.convert(contacts.MEMBER, page, partial(conversion.to_member, run.context, references=references))
            old_ids = [row["id"] for row in page]
            await writer.write(
                partial(_write_members, run, rows, after, old_ids), partial(run.count, contacts.MEMBER, rows)
            )
            after = old_ids[-1]
            progress.add(len(page))
    await _remove_members(run, after, 2**63 - 1, [])


async def _write_members(run: ImportRun, rows: Sequence[Any], after: int, old_ids: Sequence[int]) -> Written:
    """Write the members of a page. Remove those whose old id is after the page before and not in this one."""
    await _remove_members(run, after, old_ids[-1], old_ids)
    return await _write("contacts", contacts.import_members, run, rows)


async def _remove_members(run: ImportRun, after: int, until: int, old_ids: Sequence[int]) -> None:
    if run.is_dry_run:
        return
    async with run.stack.session("contacts") as session:
        await contacts.remove_members(
            session, run.system.name, run.organisations, after=after, until=until, old_ids=old_ids
        )


async def import_schedules(run: ImportRun) -> None:
    """Import single messages and batches, then the messages of batches, and let the batches be finished."""
    for one in run.system.passes:
        await _import_pass(run, one)
    after: int | None = 0
    while after is not None and not run.is_dry_run:
        async with run.stack.session("scheduling") as session:
            after, _ = await scheduling.complete_batches(
                session, run.system.name, run.organisations, after=after, size=1000
            )


def _joined(run: ImportRun, one: SchedulePass) -> Joined:
    """Return what a page of schedules is read with: its group's name, and what it needs of its batch."""
    groups = run.source.relation(run.system.table("group"))
    return Joined(
        columns="g.name AS group_name, p.status AS parent_status, p.scheduled_time AS parent_time,"
        " p.text AS parent_text, pg.id AS parent_group",
        joins=f"LEFT JOIN {groups} g ON g.id = t.group_id"
        f" LEFT JOIN {run.source.relation(one.batches)} p ON p.id = t.parent_id"
        f" LEFT JOIN {groups} pg ON pg.id = p.group_id",
        condition=one.condition,
    )


async def _import_pass(run: ImportRun, one: SchedulePass) -> None:
    async with run.progress(one.label, one.table, one.condition) as progress, PageWriter() as writer:
        async for page in run.source.pages(one.table, run.wanted, _joined(run, one)):
            by_kind: dict[ScheduleKind, list[Row]] = {kind: [] for kind in ScheduleKind}
            for row in page:
                by_kind[conversion.kind_of(row)].append(row)
            references = await _find_references(run, page, by_kind[ScheduleKind.SINGLE])
            for kind, of_kind in by_kind.items():
                if of_kind:
                    convert = partial(conversion.to_schedule, run.context, kind=kind, references=references)
                    rows = run.convert(_KINDS[kind], of_kind, convert)
                    write = partial(scheduling.import_schedules, kind=_KINDS[kind])
                    await writer.write(
                        partial(_write, "scheduling", write, run, rows),
                        partial(run.count, _KINDS[kind], rows),
                        at_once=_AT_ONCE[kind],
                    )
            progress.add(len(page))


async def _find_contacts_and_groups(run: ImportRun, page: Sequence[Row]) -> References:
    """Return the contacts and groups that the rows of a page refer to.

    In a dry run every referenced row counts as imported.
    """
    contact_ids, group_ids = _old_ids(run, page, "contact_id"), _old_ids(run, page, "group_id")
    if run.is_dry_run:
        return conversion.assume_imported(contact_ids, group_ids)
    async with run.stack.session("contacts") as session:
        return References(
            contacts=await contacts.find_contacts(session, run.system.name, contact_ids),
            groups=await moved_rows.find_new_ids(session, run.system.name, contacts.GROUP, group_ids),
        )


async def _find_references(run: ImportRun, page: Sequence[Row], singles: Sequence[Row]) -> References:
    """Return what the schedules of a page refer to. `singles` are those that become single messages.

    In a dry run every referenced row counts as imported.
    """
    found, system = await _find_contacts_and_groups(run, page), run.system.name
    template_ids, batch_ids = _old_ids(run, page, "template_id"), _old_ids(run, page, "parent_id")
    if run.is_dry_run:
        return replace(found, batches=dict.fromkeys(batch_ids, 1))
    if not template_ids and not batch_ids:
        return found
    single_ids = _old_ids(run, [row for row in singles if row["parent_id"] is not None], "id")
    async with run.stack.session("scheduling") as session:
        return replace(
            found,
            templates=await moved_rows.find_new_ids(session, system, scheduling.TEMPLATE, template_ids),
            batches=await moved_rows.find_new_ids(session, system, scheduling.BATCH, batch_ids),
            batch_messages=await moved_rows.find_new_ids(session, system, scheduling.BATCH_MESSAGE, single_ids),
        )


def _old_ids(run: ImportRun, rows: Sequence[Row], column: str) -> set[OldId]:
    """Return the old ids in a column of rows. Those of organisations that were not imported are left out."""
    organisations = run.context.organisations
    distinct = {(row["organisation_id"], row[column]) for row in rows}
    return {
        OldId(organisations[owner], old_id)
        for owner, old_id in distinct
        if old_id is not None and owner in organisations
    }


# Each step refers to rows that the steps before it have imported. The people of a system come first.
STEPS: tuple[Callable[[ImportRun], Awaitable[None]], ...] = (
    partial(import_simple, one=_CONFIGS),
    partial(import_simple, one=_CONTACTS),
    partial(import_simple, one=_GROUPS),
    import_members,
    partial(import_simple, one=_TEMPLATES),
    import_schedules,
)
