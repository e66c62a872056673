"""The steps of an import from v2: each table in pages, through the use cases of the service that owns its rows."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from common.fields import clean_text
from common.moved_rows import Written
from contacts.moving_in import service as contacts
from contacts.moving_in.schemas import UserIn
from cooee.errors import NotFound
from cooee.moving_in import columns, conversion
from cooee.moving_in.conversion import References, World
from cooee.moving_in.move import SOURCE, Move
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


async def take_people(move: Move) -> None:
    """Take the organisations, the users and the memberships. Clerk's own reports about them count more."""
    names: dict[str, Row] = {}
    for row in await move.source.rows(columns.ORGANISATION):
        clerk_id = clean_text(row["clerk_org_id"] or "")
        if not clerk_id:
            move.problems.add("organisation", row["id"], "refused", "It has no id of Clerk.")
        elif move.organisation in (None, clerk_id):
            move.world.organisations[row["id"]], names[clerk_id] = clerk_id, row
    if move.organisation and not names:
        raise NotFound(f"the earlier system has no organisation {move.organisation}")
    users = {row["id"]: _user(row) for row in await move.source.rows(columns.USER) if row["clerk_id"]}
    memberships = [
        (move.world.organisations[row["organisation_id"]], row["user_id"], row["role"] or "member")
        for row in await move.source.rows(columns.MEMBERSHIP)
        if row["organisation_id"] in move.world.organisations and row["user_id"] in users
    ]
    if move.is_dry_run:
        move.world.users = dict.fromkeys(users, 1)
        move.world.members = {(organisation, 1) for organisation, _, _ in memberships}
        return
    async with move.stack.session("contacts") as session:
        for clerk_id, row in names.items():
            await contacts.take_organisation(
                session, clerk_id, clean_text(row["name"] or ""), clean_text(row["slug"] or "")
            )
        known = await contacts.take_users(session, list(users.values()))
        move.world.users = {old_id: known[user.clerk_id] for old_id, user in users.items()}
        found = [(organisation, move.world.users[user], role) for organisation, user, role in memberships]
        await contacts.take_memberships(session, found, move.world.now)
    move.world.members = {(organisation, user) for organisation, user, _ in found}


def _user(row: Row) -> UserIn:
    texts = (clean_text(row[name] or "") for name in ("clerk_id", "first_name", "last_name", "email"))
    return UserIn(*texts)


@dataclass(frozen=True)
class _Simple:
    """A table whose rows refer to users and organisations only, and the use case that takes them."""

    table: columns.SourceTable
    kind: str
    convert: Callable[[World, Row], Any]
    service: str
    take: Take


_SIMPLE = {
    found.kind: found
    for found in (
        _Simple(
            table=columns.CONTACT,
            kind=contacts.CONTACT,
            convert=conversion.to_contact,
            service="contacts",
            take=contacts.take_contacts,
        ),
        _Simple(
            table=columns.GROUP,
            kind=contacts.GROUP,
            convert=conversion.to_group,
            service="contacts",
            take=contacts.take_groups,
        ),
        _Simple(
            table=columns.TEMPLATE,
            kind=scheduling.TEMPLATE,
            convert=conversion.to_template,
            service="scheduling",
            take=scheduling.take_templates,
        ),
        _Simple(
            table=columns.CONFIG,
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
    async with move.progress(one.table) as progress:
        async for page in move.source.pages(one.table, move.wanted):
            rows = move.convert(kind, page, partial(one.convert, move.world))
            move.count(kind, rows, await _write(one.service, one.take, move, rows))
            progress.add(len(page))


async def _write(service: str, take: Take, move: Move, rows: Sequence[Any]) -> Written:
    return await move.write(service, lambda session: take(session, SOURCE, rows))


async def take_members(move: Move) -> None:
    """Take the members of groups, and remove those that the earlier system removed since the last run."""
    source = move.source
    joined = Joined(
        columns="g.organisation_id AS group_organisation, c.organisation_id AS contact_organisation",
        joins=f"LEFT JOIN {source.table(columns.GROUP)} g ON g.id = t.group_id"
        f" LEFT JOIN {source.table(columns.CONTACT)} c ON c.id = t.contact_id",
    )
    after = -(2**63)
    async with move.progress(columns.MEMBER) as progress:
        async for page in source.pages(columns.MEMBER, move.wanted, joined, "g.organisation_id"):
            await _remove_members(move, after, page[-1]["id"], [row["id"] for row in page])
            after = page[-1]["id"]
            found = await find_references(move, page)
            convert = partial(conversion.to_member, move.world, groups=found.groups, contacts=found.contacts)
            rows = move.convert(contacts.MEMBER, page, convert)
            written = await _write("contacts", contacts.take_members, move, rows)
            move.count(contacts.MEMBER, rows, written)
            progress.add(len(page))
    await _remove_members(move, after, 2**63 - 1, [])


async def _remove_members(move: Move, after: int, until: int, old_ids: Sequence[int]) -> None:
    if move.is_dry_run:
        return
    async with move.stack.session("contacts") as session:
        await contacts.remove_members(session, SOURCE, move.organisation, after=after, until=until, old_ids=old_ids)


async def take_schedules(move: Move) -> None:
    """Take single messages and batches, then the messages of batches, and let the batches be finished."""
    for condition in ("t.parent_id IS NULL", "t.parent_id IS NOT NULL"):
        await _take_schedules(move, _joined(move, condition))
    after: int | None = 0
    while after is not None and not move.is_dry_run:
        async with move.stack.session("scheduling") as session:
            after, _ = await scheduling.complete_batches(session, SOURCE, move.organisation, after=after, size=1000)


def _joined(move: Move, condition: str) -> Joined:
    """Return what a page of schedules is read with: its group's name, and what it needs of its batch."""
    source = move.source
    text = source.column(columns.SCHEDULE, "text")
    groups = source.table(columns.GROUP)
    return Joined(
        columns=f"g.name AS group_name, p.status AS parent_status, p.scheduled_time AS parent_time,"
        f" p.{text} AS parent_text, pg.id AS parent_group",
        joins=f"LEFT JOIN {groups} g ON g.id = t.group_id"
        f" LEFT JOIN {source.table(columns.SCHEDULE)} p ON p.id = t.parent_id"
        f" LEFT JOIN {groups} pg ON pg.id = p.group_id",
        condition=condition,
    )


async def _take_schedules(move: Move, joined: Joined) -> None:
    async with move.progress(columns.SCHEDULE, joined.condition) as progress:
        async for page in move.source.pages(columns.SCHEDULE, move.wanted, joined):
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

    def wanted(name: str) -> list[int]:
        return sorted({row[name] for row in page if row.get(name) is not None})

    if move.is_dry_run:
        return conversion.assume_taken(wanted("contact_id"), wanted("group_id"), wanted("parent_id"))
    async with move.stack.session("contacts") as session:
        people = await contacts.find_contacts(session, SOURCE, wanted("contact_id"))
        groups = await contacts.find_new_ids(session, SOURCE, contacts.GROUP, wanted("group_id"))
    if not wanted("template_id") and not wanted("parent_id"):
        return References(people, groups, {}, {})
    async with move.stack.session("scheduling") as session:
        templates = await scheduling.find_new_ids(session, SOURCE, scheduling.TEMPLATE, wanted("template_id"))
        batches = await scheduling.find_new_ids(session, SOURCE, scheduling.BATCH, wanted("parent_id"))
    return References(people, groups, templates, batches)


# Each step refers to rows that the steps before it have taken.
STEPS: tuple[Callable[[Move], Awaitable[None]], ...] = (
    take_people,
    partial(take_simple, kind=delivery.CONFIG),
    partial(take_simple, kind=contacts.CONTACT),
    partial(take_simple, kind=contacts.GROUP),
    take_members,
    partial(take_simple, kind=scheduling.TEMPLATE),
    take_schedules,
)
