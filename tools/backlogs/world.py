"""What the scenarios share: the stack, clients of organisations, and rows that are written as a service's own role."""

import asyncio
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import asyncpg

from tools.backlogs.report import Report, Section
from tools.chaos.audit import count_open
from tools.demo.journey import Api, read_handset
from tools.embedded.supervisor import Stack
from tools.token import Issuer, Session, mint

_TOKEN_S = 24 * 3600
_POLL_S = 0.5
_STEP = 20_000
_TIMEOUT_S = 10.0
_SCHEDULES = """
    INSERT INTO schedules (organisation_id, kind, phone, text, scheduled_time, format, message_parts, request_id)
    SELECT $1, 'single', '+614' || lpad((44000000 + n)::text, 8, '0'), $2 || ' ' || n, now(), 'sms', 1, 'backlogs'
    FROM generate_series($3::int, $4::int - 1) n
"""


@dataclass(frozen=True)
class Size:
    """How large the backlogs are.

    `outage_s`: how long the broker and delivery are away. `rows`: events in an outbox. `queued`: messages of one
    organisation. `long`: long messages, whose events are larger in sum than what the embedded broker retains.
    `probes`: single sends beside the queue.
    """

    outage_s: float = 60.0
    rows: int = 1_000_000
    queued: int = 100_000
    long: int = 15_000
    probes: int = 60


class World:
    """A running stack with its clients. `say` gets a line for each step."""

    def __init__(
        self, stack: Stack, http: aiohttp.ClientSession, size: Size, report: Report, say: Callable[[str], None]
    ) -> None:
        self.stack, self.http, self.size, self.report, self.say = stack, http, size, report, say
        self.is_timed = True
        self._issuer = Issuer(stack.home, stack.environment["CLERK_ISSUER"])

    def section(self, scenario: str) -> Section:
        """Return the part of the report for a scenario, and name it."""
        self.say(scenario)
        return Section(self.report, scenario)

    def api(self, organisation: str) -> Api:
        """Return a client of an organisation."""
        token = mint(Session(f"user_{organisation}", organisation, "admin", ttl_s=_TOKEN_S), self._issuer)
        return Api(self.http, self.stack.url("gateway"), lambda: token)

    async def connect(self, service: str = "") -> Any:
        """Return a connection to PostgreSQL with the role of a service that sees all organisations.

        Without a service it is the administrator's.
        """
        if not service:
            return await asyncpg.connect(self.stack.environment["DATABASE_URL"], timeout=_TIMEOUT_S)
        url = self.stack.environment[f"{service.upper()}_DATABASE_URL"]
        return await asyncpg.connect(url, user=f"{service}_all", timeout=_TIMEOUT_S)

    async def import_group(self, api: Api, name: str, rows: int) -> int:
        """Import contacts into a new group, and return its id."""
        group = await api.call("POST", "/api/groups/", json={"name": name})
        file = io.StringIO()
        file.write("first_name,last_name,phone\n")
        file.writelines(f"First{n},Last{n},+614{45_000_000 + n:08d}\n" for n in range(rows))
        form = aiohttp.FormData()
        form.add_field("file", file.getvalue().encode(), filename="backlogs.csv", content_type="text/csv")
        path = f"/api/contacts/import/?group_id={group['id']}"
        answer = await api.call("POST", path, data=form, expect=(200, 202, 207))
        while answer.get("status") not in (None, "done"):
            await asyncio.sleep(_POLL_S)
            answer = await api.call("GET", f"/api/contacts/imports/{answer['id']}/")
        return int(group["id"])

    async def add_due_schedules(self, organisation: str, text: str, count: int) -> list[str]:
        """Insert single schedules that are due now, with the role of scheduling. Return their texts."""
        connection = await self.connect("scheduling")
        try:
            for start in range(0, count, _STEP):
                await connection.execute(_SCHEDULES, organisation, text, start, min(start + _STEP, count))
        finally:
            await connection.close()
        return [f"{text} {number}" for number in range(count)]

    async def wait_idle(self, timeout_s: float) -> float | None:
        """Wait until every message has its outcome and no outbox has a row. Return the seconds, or None."""
        start = time.monotonic()
        left: dict[str, int] = {}
        while time.monotonic() - start < timeout_s:
            left = await count_open(self.stack.environment["DATABASE_URL"])
            if not any(left.values()):
                return time.monotonic() - start
            await asyncio.sleep(_POLL_S)
        self.say(f"still open: {', '.join(f'{number} {name}' for name, number in left.items() if number)}")
        return None

    async def arrived(self) -> list[dict[str, Any]]:
        """Return the messages on the handset."""
        return await read_handset(self.http, self.stack.url("handset"))

    async def clear_handset(self) -> None:
        """Delete the messages on the handset."""
        async with self.http.delete(f"{self.stack.url('handset')}/api/messages/") as answer:
            answer.raise_for_status()

    async def set_latency(self, milliseconds: int) -> None:
        """Let the handset answer as slowly as this."""
        url = f"{self.stack.url('handset')}/api/settings/"
        async with self.http.patch(url, json={"latency_ms": milliseconds}) as answer:
            answer.raise_for_status()

    async def fetch(self, statement: str, *values: Any) -> Sequence[Any]:
        """Return the rows of a statement of the administrator."""
        connection = await self.connect()
        try:
            rows: Sequence[Any] = await connection.fetch(statement, *values)
            return rows
        finally:
            await connection.close()
