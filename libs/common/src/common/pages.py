"""Read a page of a long list in a time that does not grow with the list.

The total comes from a counter (common.counters). PostgreSQL reads and discards every row before the OFFSET. So a page
near the end is read from the end, and other far pages start at an *anchor*: a position whose row this process has seen
before. Anchors stay valid as long as the counter says that the set of rows is the same. The first visit to a page in
the middle of a very long list still reads from the nearest anchor.

docs/performance.md explains the statement.
"""
# ruff: noqa: S608  # the parts of a statement are constants

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from common.paging import Page
from common.statements import ORGANISATION, Statement, Tenant

_MAX_LISTS = 1000
_MAX_ANCHORS = 64


@dataclass(slots=True)
class _Anchors:
    """Positions of one list. `changes` is the state of its counter when they were seen."""

    changes: int
    keys: OrderedDict[int, tuple[Any, Any]] = field(default_factory=OrderedDict)

    def nearest(self, offset: int) -> tuple[int, tuple[Any, Any]] | None:
        """Return the last anchor at or before an offset."""
        before = [place for place in self.keys if place <= offset]
        return (max(before), self.keys[max(before)]) if before else None


def _renumber(sql: str) -> str:
    """Return a statement whose parameters `$8, $9, …` are `$3, $4, …`."""
    return re.sub(r"\$(\d+)", lambda found: f"${int(found[1]) - 5 if int(found[1]) >= 8 else found[1]}", sql)


class PagedList:
    """A list of an organisation's rows, newest first, with an exact total.

    `columns` and `source` are SQL. `where` is the list's condition and must contain `organisation_id = o.id`. Here `o`
    is the row of `ORGANISATION` in common.statements; its `id` is the organisation of the statement. The parameters of
    the condition are `$8, $9, …`. `order` names two columns that together are unique, such as `("created_at", "id")`;
    `types` are their PostgreSQL types. `total` is a sub-select over `o` with the columns `total` (never
    NULL) and `changes`.
    """

    def __init__(
        self, *, columns: str, source: str, where: str, order: tuple[str, str], types: tuple[str, str], total: str
    ) -> None:
        self._order = order
        first, second = order
        rows = f"SELECT {columns} FROM {source} WHERE {where}"
        newest = f"ORDER BY {first} DESC, {second} DESC"
        anchored = f"({first}, {second}) <= (CAST($5 AS {types[0]}), CAST($6 AS {types[1]}))"
        self.statement = Statement(
            f"""
            SELECT t.total, t.changes, r.* FROM {ORGANISATION}
            CROSS JOIN LATERAL ({total}) t
            CROSS JOIN LATERAL (
                SELECT CASE WHEN t.changes = CAST($7 AS bigint) AND CAST($4 AS bigint) > 0 THEN 'anchor'
                            WHEN CAST($3 AS bigint) * 2 > t.total THEN 'end' ELSE 'start' END AS way OFFSET 0) w
            LEFT JOIN LATERAL (
                (SELECT * FROM ({rows} {newest}) a
                 LIMIT CASE w.way WHEN 'start' THEN CAST($2 AS bigint) ELSE 0 END OFFSET CAST($3 AS bigint))
                UNION ALL
                (SELECT * FROM ({rows} AND {anchored} {newest}) b
                 LIMIT CASE w.way WHEN 'anchor' THEN CAST($2 AS bigint) ELSE 0 END
                 OFFSET CAST($3 AS bigint) - CAST($4 AS bigint))
                UNION ALL
                (SELECT * FROM ({rows} ORDER BY {first}, {second}) c
                 LIMIT CASE w.way WHEN 'end' THEN greatest(least(CAST($2 AS bigint), t.total - CAST($3 AS bigint)), 0)
                       ELSE 0 END
                 OFFSET greatest(t.total - CAST($3 AS bigint) - CAST($2 AS bigint), 0))
            ) r ON true
            ORDER BY r.{first} DESC, r.{second} DESC
            """
        )
        # The first page, which is read most, needs none of these ways. Its own conditions begin at `$3`. CASE hides the
        # limit from PostgreSQL. Otherwise it would estimate a plan for 50 rows as cheaper than a plan for any number,
        # although both are the same, and plan each page again. That took longer than reading it.
        self.first_page = Statement(
            _renumber(
                f"""
                SELECT t.total, r.* FROM {ORGANISATION}
                CROSS JOIN LATERAL ({total}) t
                LEFT JOIN LATERAL (
                    {rows} {newest} LIMIT CASE WHEN t.total IS NOT NULL THEN CAST($2 AS bigint) END) r ON true
                ORDER BY r.{first} DESC, r.{second} DESC
                """
            )
        )
        self._anchors: OrderedDict[tuple[Any, ...], _Anchors] = OrderedDict()

    async def read(self, tenant: Tenant, page: Page, *values: Any) -> tuple[Sequence[Any], int]:
        """Return the rows of a page and the total. `values` are the parameters of the list's own condition."""
        if page.offset == 0:
            rows = await tenant.fetch(self.first_page, page.limit, *values)
            return [row for row in rows if row[self._order[1]] is not None], rows[0]["total"]
        name = (tenant.organisation_id, *values)
        known = self._anchors.get(name)
        nearest = known.nearest(page.offset) if known else None
        place, (first, second) = nearest or (0, (None, None))
        changes = known.changes if known else -1
        rows = await tenant.fetch(self.statement, page.limit, page.offset, place, first, second, changes, *values)
        found = [row for row in rows if row[self._order[1]] is not None]
        if found:
            self._remember(name, rows[0]["changes"], page.offset, found[0])
        return found, rows[0]["total"]

    def _remember(self, name: tuple[Any, ...], changes: int, offset: int, row: Any) -> None:
        known = self._anchors.get(name)
        if known is None or known.changes != changes:
            known = self._anchors[name] = _Anchors(changes)
        known.keys[offset] = (row[self._order[0]], row[self._order[1]])
        known.keys.move_to_end(offset)
        self._anchors.move_to_end(name)
        if len(known.keys) > _MAX_ANCHORS:
            known.keys.popitem(last=False)
        if len(self._anchors) > _MAX_LISTS:
            self._anchors.popitem(last=False)
