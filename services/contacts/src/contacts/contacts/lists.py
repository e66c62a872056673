"""The lists of contacts: all of them, those that a search finds, and those outside a group.

Each page is one statement that sets its organisation (common.statements).
"""
# ruff: noqa: S608  # the parts of the statements are constants of this file

from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

from common.pages import PagedList
from common.paging import Page
from common.statements import ORGANISATION, ORGANISATION_CTE, Statement, Tenant
from contacts.contacts.rules import SHOWN_COLUMNS

_SHOWN = ", ".join(SHOWN_COLUMNS)
# A search whose patterns are long enough for the trigram index calls `search_contacts` (see the migration). Shorter
# patterns match so many contacts that a page is soon full without the index.
_SHORTEST_INDEXED = len("%abc%")


class Search(Enum):
    """The kinds of searches in the list of contacts."""

    NONE = auto()
    UNINDEXED = auto()
    INDEXED = auto()


ALL = PagedList(
    columns=_SHOWN,
    source="contacts",
    where="organisation_id = o.id AND is_active",
    order=("created_at", "id"),
    types=("timestamptz", "bigint"),
    total="SELECT coalesce(sum(total), 0)::bigint AS total, coalesce(sum(changes), 0)::bigint AS changes"
    " FROM contact_counts WHERE organisation_id = o.id",
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


def _searched(*conditions: str) -> Statement:
    """Return the statement for a page of what the trigram index finds, with the total. `$4` has the patterns.

    LATERAL with OFFSET makes PostgreSQL fetch the rows of the page one by one. Without it, and without statistics on
    an organisation that was just imported, it would look for each row in all contacts of the organisation.
    """
    condition = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    return Statement(
        f"""
        WITH {ORGANISATION_CTE}, found AS MATERIALIZED (
            SELECT f.id, f.created_at, o.id AS organisation_id
            FROM o CROSS JOIN LATERAL search_contacts(o.id, $4) f {condition}
        )
        SELECT t.total, c.* FROM (SELECT count(*) AS total FROM found) t
        LEFT JOIN (SELECT * FROM found ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3) chosen ON true
        LEFT JOIN LATERAL (
            SELECT {_SHOWN} FROM contacts WHERE id = chosen.id AND organisation_id = chosen.organisation_id OFFSET 0
        ) c ON true
        ORDER BY c.created_at DESC, c.id DESC
        """
    )


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
        search = Search.INDEXED if min(map(len, patterns)) >= _SHORTEST_INDEXED else Search.UNINDEXED
    values: list[Any] = [page.limit, page.offset]
    values += [list(patterns)] if patterns else []
    values += [] if exclude_group_id is None else [exclude_group_id]
    rows = await tenant.fetch(FOUND[search, exclude_group_id is not None], *values)
    return [row for row in rows if row["id"] is not None], rows[0]["total"]


async def group_exists(tenant: Tenant, group_id: int) -> bool:
    """Return whether there is a group with this id, active or deleted."""
    return await tenant.fetch_row(_HAS_GROUP, group_id) is not None
