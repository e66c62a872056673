"""An organisation on a running stack, as the scenarios use it."""

import asyncio
import io
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import aiohttp

from tools.bench.cpu import measure_cpu
from tools.bench.load import Address, Load, run_load
from tools.bench.report import Report
from tools.bench.yardsticks import CONNECTIONS, Yard
from tools.demo.journey import Api, read_handset
from tools.embedded.supervisor import Stack
from tools.token import Issuer, Session, mint

ORGANISATION = "org_bench"
LOAD_S = 8.0
TIMEOUT_S = 180
_TOKEN_S = 6 * 3600


@dataclass
class Shared:
    """What all organisations of a stack share. `scale` is 0.1 with `--quick`, and `growth` is the full size of growth.

    `group` has the imported contacts. `due_day` is the day on which the schedules of the organisation were due.
    """

    stack: Stack
    session: aiohttp.ClientSession
    report: Report
    scale: float = 1.0
    growth: bool = False
    group: int = 0
    due_day: date | None = None
    new_numbers: Iterator[int] = field(default_factory=lambda: itertools.count(600_000))


class Bench:
    """An organisation on a stack."""

    def __init__(self, shared: Shared, organisation: str = ORGANISATION) -> None:
        self.shared, self.organisation = shared, organisation
        self.stack, self.report = shared.stack, shared.report
        issuer = Issuer(self.stack.home, self.stack.environment["CLERK_ISSUER"])
        session = Session(user=f"user_{organisation}", organisation=organisation, role="admin", ttl_s=_TOKEN_S)
        token = mint(session, issuer)
        self.headers = {"Authorization": f"Bearer {token}"}
        self.address = Address.of(self.stack.url("gateway"))
        self.api = Api(shared.session, self.stack.url("gateway"), lambda: token)
        self._handset = self.stack.url("handset")

    def of(self, organisation: str) -> "Bench":
        """Return another organisation on the same stack."""
        return Bench(self.shared, organisation)

    def size(self, full: int) -> int:
        """Return a number scaled by `--quick`."""
        return max(1, int(full * self.shared.scale))

    @property
    def load_s(self) -> float:
        """How long a load lasts."""
        return LOAD_S * self.shared.scale

    def pids(self) -> Mapping[str, int]:
        """Return the ids of the stack's processes by name."""
        return {name: self.stack.pid(name) for name in self.stack.names}

    def get(self, path: str) -> bytes:
        """Return a GET request as bytes."""
        return self.address.render("GET", path, self.headers)

    def post(self, path: str, body: Any) -> bytes:
        """Return a POST request as bytes."""
        return self.address.render("POST", path, self.headers, body)

    async def measure_load(self, name: str, request: Callable[[int], bytes]) -> Load:
        """Measure a load of 32 connections for some seconds, after a shorter one that is not counted."""
        await run_load(self.address, CONNECTIONS, request, seconds=self.load_s / 4)
        with measure_cpu(self.pids) as use:
            load = await run_load(self.address, CONNECTIONS, request, seconds=self.load_s)
        self.report.load(name, load, use, Yard.PROXY_32)
        return load

    async def measure_single(self, name: str, request: Callable[[int], bytes], count: int) -> Load:
        """Measure requests one after another."""
        with measure_cpu(self.pids) as use:
            load = await run_load(self.address, 1, request, count=count)
        self.report.load(name, load, use, Yard.PROXY)
        return load

    async def import_contacts(self, rows: int, name: str) -> int:
        """Import contacts into a new group, add the figure, and return the group's id."""
        group = await self.api.call("POST", "/api/groups/", json={"name": name})
        file = io.BytesIO()
        file.write(b"first_name,last_name,phone\n")
        file.writelines(f"First{n},Last{n},{phone(n)}\n".encode() for n in range(rows))
        form = aiohttp.FormData()
        form.add_field("file", file.getvalue(), filename="bench.csv", content_type="text/csv")
        path = f"/api/contacts/import/?group_id={group['id']}"
        with measure_cpu(self.pids) as use:
            answer = await self.api.call("POST", path, data=form, expect=(200, 202, 207))
            if "status" in answer:
                answer = await self._wait_for_import(answer["id"])
        imported = answer["imported"]
        self.report.rate(
            f"import of {rows:,}", imported / use.wall_s, "rows/s", Yard.COPY, cpu_ms=use.per(max(imported, 1))
        )
        return int(group["id"])

    async def _wait_for_import(self, import_id: int) -> dict[str, Any]:
        """Wait until the worker has ended an import, and return its report."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                found = await self.api.call("GET", f"/api/contacts/imports/{import_id}/")
                if found["status"] == "done":
                    return dict(found["report"])
                if found["status"] == "failed":
                    raise RuntimeError(found["error"])
                await asyncio.sleep(0.2)

    async def clear_handset(self) -> None:
        """Delete the messages on the handset."""
        async with self.shared.session.delete(f"{self._handset}/api/messages/") as answer:
            answer.raise_for_status()

    async def arrivals(self, count: int) -> list[dict[str, Any]]:
        """Wait until the handset has `count` messages, and return them."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            async with self.shared.session.get(f"{self._handset}/api/requests/") as answer:
                arrived = (await answer.json())["messages"]
            if arrived >= count or time.monotonic() > deadline:
                return await read_handset(self.shared.session, self._handset)
            await asyncio.sleep(0.2)


Scenario = Callable[[Bench], Awaitable[None]]


def phone(number: int) -> str:
    """Return a number with a prefix that is not allocated."""
    return f"+614{41 + number // 1_000_000}{number % 1_000_000:06d}"


def received(message: dict[str, Any]) -> float:
    """Return the time at which the handset received a message, in Unix seconds."""
    return datetime.fromisoformat(message["received_at"]).timestamp()
