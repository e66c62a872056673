"""The messages of an organisation in both directions, in one statement."""
# ruff: noqa: S608 (what is put together are constants of this file)

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from common.paging import Page
from delivery.conversations.schemas import STATES, Filters

_TABLES = {
    "outbound": ("messages", "created_at"),
    "inbound": ("inbound_messages", "received_at"),
}
# Rows and count in one round trip. Each arm is read along an index that has its order, as far as the page reaches, and
# the arms are merged. (Without a limit of its own an arm loses its order, and all of them are sorted.) The rows
# themselves are fetched last, one by one.
_PAGE = """
    SELECT counted.total, chosen.direction, chosen.id, chosen.time, coalesce(o.text, i.text) AS text,
           coalesce(o.phone, i.phone) AS phone, o.status, coalesce(o.schedule_id, i.schedule_id) AS schedule_id,
           coalesce(o.contact_id, i.contact_id) AS contact_id
    FROM (SELECT {count} AS total) counted
    LEFT JOIN (
        SELECT * FROM ({arms}) every ORDER BY time DESC, id DESC LIMIT :limit OFFSET :offset
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


async def page(
    session: AsyncSession, filters: Filters, start: datetime | None, end: datetime | None, wanted: Page
) -> tuple[Sequence[Row[Any]], int]:
    """A page of the messages, the newest first, and how many there are. `start` and `end` bound their time."""
    bounds = {"start": start, "end": end}
    arms = [
        (direction, condition)
        for direction in _directions(filters)
        for condition in _conditions(filters, direction, {name for name, bound in bounds.items() if bound})
    ]
    if not arms:
        return [], 0
    count = " + ".join(f"(SELECT count(*) FROM {_TABLES[d][0]} WHERE {condition})" for d, condition in arms)
    selects = [_ARM.format(table=_TABLES[d][0], time=_TABLES[d][1], direction=d, condition=c) for d, c in arms]
    statement = text(_PAGE.format(count=count, arms=" UNION ALL ".join(selects)))
    states = [state for word in filters.statuses for state in STATES.get(word, ())]
    known = {"phone": filters.phone, "contact": filters.contact, "states": states, **bounds}
    parameters = {name: known[name] for name in known if f":{name}" in statement.text}
    place = {"limit": wanted.limit, "offset": wanted.offset, "last": wanted.offset + wanted.limit}
    rows = (await session.execute(statement, {**parameters, **place})).all()
    return [row for row in rows if row.id is not None], rows[0].total


def _directions(filters: Filters) -> list[str]:
    directions = [filters.direction] if filters.direction else list(_TABLES)
    if filters.statuses:
        possible = {"inbound" if word == "received" else "outbound" for word in filters.statuses}
        return [direction for direction in directions if direction in possible]
    return list(directions)


def _conditions(filters: Filters, direction: str, bounds: set[str]) -> list[str]:
    """What the rows of an arm fulfil; a contact has two, each with its index, and no row in both."""
    time = _TABLES[direction][1]
    shared = ["true"]
    if filters.statuses and direction == "outbound":
        shared.append("status = ANY(CAST(:states AS text[]))")
    if "start" in bounds:
        shared.append(f"{time} >= :start")
    if "end" in bounds:
        shared.append(f"{time} < :end")
    if filters.contact is not None:
        whose = ["contact_id = :contact", "phone = :phone AND contact_id IS DISTINCT FROM :contact"]
    else:
        whose = ["phone = :phone"] if filters.phone else ["true"]
    return [" AND ".join([one, *shared]) for one in whose]
