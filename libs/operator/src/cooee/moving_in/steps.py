"""The steps of an import: each table in pages, through the use cases of the service that owns its rows."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from common.moved_rows import OldId, Written
from contacts.moving_in import service as contacts
from cooee.moving_in import conversion
from cooee.moving_in.columns import SchedulePass
from cooee.moving_in.conversion import References, World
from cooee.moving_in.move import Move
from cooee.moving_in.source import Joined, Row
from delivery.moving_in import service as delivery
from scheduling.models import ScheduleKind
from scheduling.moving_in import service as scheduling

_KINDS = {
    ScheduleKind.SINGLE: scheduling.SCHEDULE,
    ScheduleKind.BATCH: scheduling.BATCH,
    ScheduleKind.BATCH_MESSAGE: scheduling.BATCH_MESSAGE,
}
Take = Callable[..., Awaitable[Written]]


@dataclass(frozen=True)
class _Simple:
    """A table whose rows refer to users and organisations only, and the use case that takes them."""

    role: str
    kind: str
    convert: Callable[[World, Row], Any]
    service: str
    take: Take


_SIMPLE = {
    found.kind: found
    for found in (
        _Simple(
            role="contact",
            kind=contacts.CONTACT,
            convert=conversion.to_contact,
            service="contacts",
            take=contacts.take_contacts,
        ),
        _Simple(
            role="group",
            kind=contacts.GROUP,
            convert=conversion.to_group,
            service="contacts",
            take=contacts.take_groups,
        ),
        _Simple(
            role="template",
            kind=scheduling.TEMPLATE,
            convert=conversion.to_template,
            service="scheduling",
            take=scheduling.take_templates,
        ),
        _Simple(
            role="config",
            kind=delivery.CONFIG,
            convert=conversion.to_config,
            service="delivery",
            take=delivery.take_configs,
        ),
    )
}


async def take_simple(move: Move, kind: str) -> None:
    """Take the contacts, groups, templates or configs."""
    one = _SIMPLE[kind]
    table = move.system.table(one.role)
    async with move.progress(table) as progress:
        async for page in move.source.pages(table, move.wanted):
            rows = move.convert(kind, page, partial(one.convert, move.world))
            move.count(kind, rows, await _write(one.service, one.take, move, rows))
            progress.add(len(page))


async def _write(service: str, take: Take, move: Move, rows: Sequence[Any]) -> Written:
    return await move.write(service, lambda session: take(session, move.system.name, rows))


async def take_members(move: Move) -> None:
    """Take the members of groups, and remove those that the earlier system removed since the last run."""
    source, members = move.source, move.system.table("member")
    joined = Joined(
        columns="g.organisation_id, g.organisation_id AS group_organisation, c.organisation_id AS contact_organisation",
        joins=f"LEFT JOIN {source.relation(move.system.table('group'))} g ON g.id = t.group_id"
        f" LEFT JOIN {source.relation(move.system.table('contact'))} c ON c.id = t.contact_id",
    )
    after = -(2**63)
    async with move.progress(members) as progress:
        async for page in source.pages(members, move.wanted, joined, "g.organisation_id"):
            await _remove_members(move, after, page[-1]["id"], [row["id"] for row in page])
            after = page[-1]["id"]
            found = await find_references(move, page)
            rows = move.convert(contacts.MEMBER, page, partial(conversion.to_member, move.world, found=found))
            written = await _write("contacts", contacts.take_members, move, rows)
            move.count(contacts.MEMBER, rows, written)
            progress.add(len(page))
    await _remove_members(move, after, 2**63 - 1, [])


async def _remove_members(move: Move, after: int, until: int, old_ids: Sequence[int]) -> None:
    if move.is_dry_run:
        return
    async with move.stack.session("contacts") as session:
        await contacts.remove_members(
            session, move.system.name, move.organisations, after=after, until=until, old_ids=old_ids
        )


async def take_schedules(move: Move) -> None:
    """Take single messages and batches, then the messages of batches, and let the batches be finished."""
    for one in move.system.passes:
        await _take_schedules(move, one)
    after: int | None = 0
    while after is not None and not move.is_dry_run:
        async with move.stack.session("scheduling") as session:
            after, _ = await scheduling.complete_batches(
                session, move.system.name, move.organisations, after=after, size=1000
            )


def _joined(move: Move, one: SchedulePass) -> Joined:
    """Return what a page of schedules is read with: its group's name, and what it needs of its batch."""
    groups = move.source.relation(move.system.table("group"))
    return Joined(
        columns="g.name AS group_name, p.status AS parent_status, p.scheduled_time AS parent_time,"
        " p.text AS parent_text, pg.id AS parent_group",
        joins=f"LEFT JOIN {groups} g ON g.id = t.group_id"
        f" LEFT JOIN {move.source.relation(one.batches)} p ON p.id = t.parent_id"
        f" LEFT JOIN {groups} pg ON pg.id = p.group_id",
        condition=one.condition,
    )


async def _take_schedules(move: Move, one: SchedulePass) -> None:
    async with move.progress(one.table, one.condition) as progress:
        async for page in move.source.pages(one.table, move.wanted, _joined(move, one)):
            found = await find_references(move, page)
            for kind in ScheduleKind:
                of_kind = [row for row in page if conversion.kind_of(row) == kind]
                if not of_kind:
                    continue
                rows = move.convert(_KINDS[kind], of_kind, partial(conversion.to_schedule, move.world, found=found))
                take = partial(scheduling.take_schedules, kind=_KINDS[kind])
                move.count(_KINDS[kind], rows, await _write("scheduling", take, move, rows))
            progress.add(len(page))


async def find_references(move: Move, page: Sequence[Row]) -> References:
    """Return what the rows of a page refer to. In a dry run all of it counts as taken."""

    organisations, source = move.world.organisations, move.system.name

    def wanted(name: str) -> set[OldId]:
        return {
            OldId(organisations[row["organisation_id"]], row[name])
            for row in page
            if row.get(name) is not None and row["organisation_id"] in organisations
        }

    if move.is_dry_run:
        return conversion.assume_taken(wanted("contact_id"), wanted("group_id"), wanted("parent_id"))
    async with move.stack.session("contacts") as session:
        people = await contacts.find_contacts(session, source, wanted("contact_id"))
        groups = await contacts.find_new_ids(session, source, contacts.GROUP, wanted("group_id"))
    if not wanted("template_id") and not wanted("parent_id"):
        return References(people, groups, {}, {})
    async with move.stack.session("scheduling") as session:
        templates = await scheduling.find_new_ids(session, source, scheduling.TEMPLATE, wanted("template_id"))
        batches = await scheduling.find_new_ids(session, source, scheduling.BATCH, wanted("parent_id"))
    return References(people, groups, templates, batches)


# Each step refers to rows that the steps before it have taken. The people of a system come first.
STEPS: tuple[Callable[[Move], Awaitable[None]], ...] = (
    partial(take_simple, kind=delivery.CONFIG),
    partial(take_simple, kind=contacts.CONTACT),
    partial(take_simple, kind=contacts.GROUP),
    take_members,
    partial(take_simple, kind=scheduling.TEMPLATE),
    take_schedules,
)
