"""The statements that list messages: a page of an organisation's messages, and the search of operators."""
# ruff: noqa: S608 (the parts of the statements are constants)

from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.paging import Page
from delivery.messages.rules import PUBLIC_STATUSES, RECEIVED, MessageSearch
from delivery.messages.schemas import Filters
from delivery.models import PLAIN_ID, FoundMessage, ListedMessage, columns, read_rows

# The condition of each field of a search. `before` is the id at which the page before ended.
_SEARCH = {
    "organisation_id": "m.organisation_id = :organisation_id",
    "provider_message_id": " = ".join(PLAIN_ID.format(id=i) for i in ("m.provider_message_id", ":provider_message_id")),
    "before": "(m.created_at, m.id) < (SELECT b.created_at, b.id FROM messages b WHERE b.id = :before)",
}
_FIND = "SELECT {columns} FROM messages m WHERE {conditions} ORDER BY created_at DESC, id DESC LIMIT :limit"
# Direction → its table, and the column of its time.
_TABLES = {"outbound": ("messages", "created_at"), "inbound": ("inbound_messages", "received_at")}
# Rows and count in one round trip. Each arm is read along an index that has its order, as far as the page reaches, and
# the arms are merged. Without a limit of its own an arm loses its order, and PostgreSQL sorts all of its rows. The
# columns that are shown are read last, row by row.
_PAGE = """
    SELECT counted.total, chosen.id, chosen.direction, coalesce(o.text, i.text), coalesce(o.phone, i.phone),
           chosen.time, o.status, coalesce(o.schedule_id, i.schedule_id), coalesce(o.contact_id, i.contact_id),
           coalesce(o.format, CASE WHEN i.media_urls = '{{}}' THEN 'sms' ELSE 'mms' END), o.subject,
           coalesce(i.media_urls, array_remove(ARRAY[o.media_url], NULL)), o.parts, coalesce(o.provider, i.provider),
           o.failure_category, o.error
    FROM (SELECT {count} AS total) counted
    LEFT JOIN (
        SELECT * FROM ({arms}) merged ORDER BY time DESC, id DESC LIMIT :limit OFFSET :offset
    ) chosen ON true
    LEFT JOIN LATERAL (SELECT * FROM messages WHERE id = chosen.id AND chosen.direction = 'outbound' OFFSET 0) o
        ON true
    LEFT JOIN LATERAL (SELECT * FROM inbound_messages WHERE id = chosen.id AND chosen.direction = 'inbound' OFFSET 0) i
        ON true
    ORDER BY chosen.time DESC, chosen.id DESC
"""
_ARM = """
    (SELECT {time} AS time, id, '{direction}' AS direction FROM {table} WHERE {condition}
     ORDER BY {time} DESC, id DESC LIMIT :last)
"""
# The totals of lists without other filters than directions and statuses, from counters (common.counters).
_COUNTS = {
    "outbound": "(SELECT coalesce(sum(c.total), 0)::bigint FROM message_counts c"
    " WHERE c.status = ANY(CAST(:names AS text[])))",
    "inbound": "(SELECT coalesce(sum(c.total), 0)::bigint FROM inbound_counts c)",
}


async def find_all_tenants(session: AsyncSession, wanted: MessageSearch, limit: int) -> list[FoundMessage]:
    """Return the newest messages of any organisation that match a search."""
    values = {name: value for name in _SEARCH if (value := getattr(wanted, name)) is not None}
    conditions = " AND ".join([_SEARCH[name] for name in values] or ["true"])
    statement = _FIND.format(columns=columns(FoundMessage), conditions=conditions)
    return read_rows(FoundMessage, await session.execute(text(statement), {**values, "limit": limit}))


async def page(
    session: AsyncSession, filters: Filters, wanted: Page, *, start: datetime | None = None, end: datetime | None = None
) -> tuple[list[ListedMessage], int]:
    """Return a page of the messages of both directions, the newest first, and the number of all.

    Only messages from `start` on and before `end` count.
    """
    bounds = {"start": start, "end": end}
    arms = [
        (direction, condition)
        for direction in _directions(filters)
        for condition in _conditions(filters, direction, {name for name, bound in bounds.items() if bound})
    ]
    if not arms:
        return [], 0
    if filters.is_counted and not any(bounds.values()):
        counts = [_COUNTS[direction] for direction in dict(arms)]
        names = sorted(filters.statuses or PUBLIC_STATUSES)
    else:
        counts = [f"(SELECT count(*) FROM {_TABLES[d][0]} WHERE {condition})" for d, condition in arms]
        names = []
    selects = [_ARM.format(table=_TABLES[d][0], time=_TABLES[d][1], direction=d, condition=c) for d, c in arms]
    statement = text(_PAGE.format(count=" + ".join(counts), arms=" UNION ALL ".join(selects)))
    statuses = [status for name in filters.statuses for status in PUBLIC_STATUSES.get(name, ())]
    known: dict[str, Any] = {
        "phone": filters.phone,
        "contact": filters.contact,
        "statuses": statuses,
        "names": names,
        **bounds,
    }
    parameters = {name: known[name] for name in known if f":{name}" in statement.text}
    limits = {"limit": wanted.limit, "offset": wanted.offset, "last": wanted.offset + wanted.limit}
    rows = (await session.execute(statement, {**parameters, **limits})).all()
    return read_rows(ListedMessage, [row[1:] for row in rows if row.id is not None]), rows[0].total


def _directions(filters: Filters) -> list[str]:
    directions = [filters.direction] if filters.direction else list(_TABLES)
    if filters.statuses:
        possible = {"inbound" if status == RECEIVED else "outbound" for status in filters.statuses}
        return [direction for direction in directions if direction in possible]
    return list(directions)


def _conditions(filters: Filters, direction: str, bounds: set[str]) -> list[str]:
    """Return the conditions of the arms of a direction. A contact has two, each with an index, and no row in both."""
    time = _TABLES[direction][1]
    shared = ["true"]
    if filters.statuses and direction == "outbound":
        shared.append("status = ANY(CAST(:statuses AS text[]))")
    if "start" in bounds:
        shared.append(f"{time} >= :start")
    if "end" in bounds:
        shared.append(f"{time} < :end")
    if filters.contact is not None:
        arms = ["contact_id = :contact", "phone = :phone AND contact_id IS DISTINCT FROM :contact"]
    else:
        arms = ["phone = :phone"] if filters.phone else ["true"]
    return [" AND ".join([arm, *shared]) for arm in arms]
