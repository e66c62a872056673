"""The lists of contacts: all of them, those that a search finds, those outside a group, and the members of a group.

Each page of the first three is one statement that sets its organisation (common.statements).
"""
# ruff: noqa: S608  # the parts of the statements are constants of this file

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from enum import Enum, auto
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.pages import PagedList
from common.paging import Page
from common.statements import ORGANISATION, ORGANISATION_CTE, Statement, Tenant
from contacts.contacts.rules import SHOWN_COLUMNS
from contacts.models import ContactRow

_SHOWN = ", ".join(SHOWN_COLUMNS)
# A search whose patterns are long enough for the trigram index calls `search_contacts` (see the migration). Shorter
# patterns match so many contacts that a page is soon full without the index.
_SHORTEST_INDEXED = len("%abc%")


class Search(Enum):
    """The kinds of searches in the list of contacts."""

    NONE = auto()
    UNINDEXED = auto()
    INDEXED = auto()


_TOTAL = (
    "SELECT coalesce(sum(total), 0)::bigint AS total, coalesce(sum(changes), 0)::bigint AS changes"
    " FROM contact_counts WHERE organisation_id = o.id"
)
ALL = PagedList(
    columns=_SHOWN,
    source="contacts",
    where="organisation_id = o.id AND is_active",
    order=("created_at", "id"),
    types=("timestamptz", "bigint"),
    total=_TOTAL,
)
_CONTACT_SQL = ", ".join(f"c.{name}" for name in ContactRow._fields)
# LATERAL with OFFSET makes PostgreSQL fetch the rows one by one. Without it, and without statistics on an organisation
# that was just imported, PostgreSQL would look for each row in all contacts of the organisation.
MEMBERS = text(
    f"""
    SELECT {_CONTACT_SQL} FROM (
        SELECT f.id
        FROM group_members m CROSS JOIN LATERAL (SELECT * FROM contacts WHERE id = m.contact_id OFFSET 0) f
        WHERE m.group_id = :group_id AND f.is_active
        ORDER BY f.last_name, f.first_name, f.id LIMIT :limit OFFSET :offset
    ) chosen
    CROSS JOIN LATERAL (SELECT * FROM contacts WHERE id = chosen.id OFFSET 0) c
    ORDER BY c.last_name, c.first_name, c.id
    """
)
_MATCHING = (
    "fold(f.first_name) || ' ' || fold(f.last_name) || ' 0' || substr(f.phone, 4)"
    " LIKE ANY (ARRAY(SELECT fold(pattern) FROM unnest($4::text[]) pattern))"
)


def _outside_group(parameter: str) -> str:
    return f"""NOT EXISTS (
        SELECT FROM group_members m
        WHERE m.group_id = {parameter} AND m.contact_id = f.id AND m.organisation_id = o.id)"""


def _matching(*conditions: str) -> Statement:
    """Return the statement for a page of the contacts that fulfil the conditions, with the total."""
    source = " AND ".join(("contacts f WHERE f.organisation_id = o.id AND f.is_active", *conditions))
    return Statement(
        f"""
        SELECT t.total, c.* FROM {ORGANISATION}
        CROSS JOIN LATERAL (SELECT count(*) AS total FROM {source}) t
        LEFT JOIN LATERAL (
            SELECT {_SHOWN} FROM {source} ORDER BY f.created_at DESC, f.id DESC LIMIT $2 OFFSET $3
        ) c ON true
        ORDER BY c.created_at DESC, c.id DESC
        """
    )


_MAX_SEARCHES = 500
_MAX_IDS = 2000  # that are remembered of a search


def _searched(*conditions: str) -> Statement:
    """Return the statement for a page of what the trigram index finds, with the total. `$4` has the patterns.

    Without conditions, the first row has the ids of the newest contacts that were found, too. LATERAL with OFFSET makes
    PostgreSQL fetch the rows of the page one by one. Without it, and without statistics on an organisation that was
    just imported, it would look for each row in all contacts of the organisation.
    """
    condition = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    ids = f"ARRAY(SELECT id FROM newest ORDER BY position LIMIT {_MAX_IDS})"
    first = "" if conditions else f", CASE WHEN coalesce(chosen.position, 0) <= $3 + 1 THEN {ids} END AS ids"
    return Statement(
        f"""
        WITH {ORGANISATION_CTE}, found AS MATERIALIZED (
            SELECT f.id, f.created_at, o.id AS organisation_id
            FROM o CROSS JOIN LATERAL search_contacts(o.id, $4) f {condition}
        ), newest AS MATERIALIZED (
            SELECT id, organisation_id, row_number() OVER (ORDER BY created_at DESC, id DESC) AS position FROM found
            ORDER BY created_at DESC, id DESC LIMIT greatest({_MAX_IDS}, CAST($2 AS bigint) + CAST($3 AS bigint))
        )
        SELECT t.total, t.changes, c.*{first}
        FROM (SELECT (SELECT count(*) FROM found) AS total, n.changes FROM o CROSS JOIN LATERAL ({_TOTAL}) n) t
        LEFT JOIN (SELECT * FROM newest WHERE position > $3 AND position <= $3 + $2) chosen ON true
        LEFT JOIN LATERAL (
            SELECT {_SHOWN} FROM contacts WHERE id = chosen.id AND organisation_id = chosen.organisation_id OFFSET 0
        ) c ON true
        ORDER BY chosen.position
        """
    )


# The contacts with the ids `$3` in their order, if the contacts of the organisation did not change since.
REMEMBERED = Statement(
    f"""
    SELECT c.* FROM {ORGANISATION}
    CROSS JOIN LATERAL (SELECT n.changes FROM ({_TOTAL}) n WHERE n.changes = $2 OFFSET 0) same
    LEFT JOIN (unnest($3::bigint[]) WITH ORDINALITY AS chosen (id, position)
        CROSS JOIN LATERAL (SELECT {_SHOWN} FROM contacts WHERE id = chosen.id AND organisation_id = o.id OFFSET 0) c
    ) ON true
    ORDER BY chosen.position
    """
)


class _Found(NamedTuple):
    """What a search found: the state of the counter, the total, and the ids of the newest contacts."""

    changes: int
    total: int
    ids: Sequence[int]

    def ids_of(self, page: Page) -> Sequence[int] | None:
        """Return the ids of a page, None when they are not remembered."""
        is_known = page.offset + page.limit <= len(self.ids) or self.total <= len(self.ids)
        return self.ids[page.offset : page.offset + page.limit] if is_known else None


class Searches:
    """Searches of all contacts with the trigram index.

    A search reads every match for its total and its order. What it found is remembered and used again while the
    counter says that no name and no phone changed, so the next pages and a repeated search do not search again.
    """

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[str, ...], _Found] = OrderedDict()

    async def read(self, tenant: Tenant, page: Page, patterns: Sequence[str]) -> tuple[Sequence[Any], int]:
        """Return a page of the contacts that match, the newest first, and how many there are."""
        name = (tenant.organisation_id, *patterns)
        known = self._found.get(name)
        if known is not None and (ids := known.ids_of(page)) is not None:
            rows = await tenant.fetch(REMEMBERED, known.changes, ids)
            if rows:
                self._found.move_to_end(name)
                return [row for row in rows if row["id"] is not None], known.total
        rows = await tenant.fetch(FOUND[Search.INDEXED, False], page.limit, page.offset, list(patterns))
        first = rows[0]
        self._found[name] = _Found(first["changes"], first["total"], array("q", first["ids"]))
        self._found.move_to_end(name)
        if len(self._found) > _MAX_SEARCHES:
            self._found.popitem(last=False)
        return [row for row in rows if row["id"] is not None], first["total"]


SEARCHES = Searches()
# By the kind of search and whether the members of a group are left out. The group is the last parameter.
FOUND = {
    (Search.NONE, True): _matching(_outside_group("$4")),
    (Search.UNINDEXED, False): _matching(_MATCHING),
    (Search.UNINDEXED, True): _matching(_MATCHING, _outside_group("$5")),
    (Search.INDEXED, False): _searched(),
    (Search.INDEXED, True): _searched(_outside_group("$5")),
}
_HAS_GROUP = Statement(
    f"WITH {ORGANISATION_CTE} SELECT g.id FROM o"
    " CROSS JOIN LATERAL (SELECT id FROM groups WHERE id = $2 AND organisation_id = o.id) g"
)


async def read_page(
    tenant: Tenant, page: Page, *, patterns: Sequence[str], exclude_group_id: int | None
) -> tuple[Sequence[Any], int]:
    """Return a page of the active contacts with `rules.SHOWN_COLUMNS`, the newest first, and how many there are.

    The patterns are those of `rules.search_patterns`; without patterns all contacts are listed.
    """
    if not patterns and exclude_group_id is None:
        return await ALL.read(tenant, page)
    search = Search.NONE
    if patterns:
        if exclude_group_id is None and min(map(len, patterns)) >= _SHORTEST_INDEXED:
            return await SEARCHES.read(tenant, page, patterns)
        search = Search.INDEXED if min(map(len, patterns)) >= _SHORTEST_INDEXED else Search.UNINDEXED
    values: list[Any] = [page.limit, page.offset]
    values += [list(patterns)] if patterns else []
    values += [] if exclude_group_id is None else [exclude_group_id]
    rows = await tenant.fetch(FOUND[search, exclude_group_id is not None], *values)
    return [row for row in rows if row["id"] is not None], rows[0]["total"]


async def page_of_group(session: AsyncSession, wanted: Page, group_id: int) -> list[ContactRow]:
    """Return a page of a group's active members by name."""
    values = {"group_id": group_id, "limit": wanted.limit, "offset": wanted.offset}
    return [ContactRow._make(row) for row in await session.execute(MEMBERS, values)]


async def group_exists(tenant: Tenant, group_id: int) -> bool:
    """Return whether there is a group with this id, active or deleted."""
    return await tenant.fetch_row(_HAS_GROUP, group_id) is not None
