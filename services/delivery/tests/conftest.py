"""Delivery under test: its database, a carrier that misbehaves on demand, and what runs between them."""

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import AsyncSession

from common.database import Database
from common.events import ScheduleDue
from delivery.messages import loops, service
from delivery.messages.routes import Router
from delivery.messages.rules import Policy
from delivery.messages.sender import Sender
from delivery.providers.mobile_message import MobileMessage
from delivery.settings import Settings

SECRET = "test-secret-test-secret-test-secret-0"
DEADLINE_S = 86_400.0
_schedules = count(1)


@pytest.fixture(scope="session")
def delivery_url(service_url: Callable[[str], str]) -> str:
    return service_url("delivery")


@pytest.fixture
async def database(
    delivery_url: str, open_database: Callable[[str, str], Awaitable[Database]]
) -> AsyncIterator[Database]:
    opened = await open_database(delivery_url, "delivery")
    yield opened
    await opened.close()


@pytest.fixture
def make_settings(delivery_url: str) -> Callable[..., Settings]:
    """`make_settings(**changes)`: settings without an environment."""

    def make(**changes: Any) -> Settings:
        given = {
            "database_url": delivery_url,
            "kafka_bootstrap_servers": "127.0.0.1:1",
            "internal_token_secret": SECRET,
            "mobile_message_username": "user",
            "mobile_message_password": "password",
            "mobile_message_sender": "Cooee",
        }
        return Settings(_env_file=None, **(given | changes))

    return make


@pytest.fixture
def policy() -> Policy:
    """Patient enough that nothing comes due by itself in a test: rows are made due by moving their times."""
    return Policy(lease_s=300, max_attempts=3, retry_base_s=600, replay_after_s=600, replay_window_s=43_200)


@pytest.fixture
def due(organisation: str) -> Callable[..., ScheduleDue]:
    """`due(**changes)`: a ScheduleDue of a new schedule."""

    def make(**changes: Any) -> ScheduleDue:
        schedule_id = changes.get("schedule_id", next(_schedules))
        given: dict[str, Any] = {
            "organisation_id": organisation,
            "schedule_id": schedule_id,
            "run": 1,
            "phone": "+61453000001",
            "text": "Hi Ana",
            "format": "sms",
            "parts": 1,
            "scheduled_time": datetime.now(UTC),
            "lane": "single",
        }
        merged = given | changes
        return ScheduleDue(event_id=ScheduleDue.id_of(schedule_id, merged["run"]), **merged)

    return make


@pytest.fixture
def take_in(database: Database) -> Callable[..., Awaitable[None]]:
    """`await take_in(event, …)`: one committed batch of the intake."""

    async def take(*events: ScheduleDue) -> None:
        async with database.all_tenants() as session:
            await service.take_in(session, events, DEADLINE_S)

    return take


@pytest.fixture
def rows(database: Database) -> Callable[..., Awaitable[list[Any]]]:
    """`await rows("SELECT …", name=value)`: what the database says."""

    async def read(statement: str, **parameters: Any) -> list[Any]:
        async with database.all_tenants() as session:
            return list((await session.execute(text(statement), parameters)).all())

    return read


@pytest.fixture
def execute(database: Database) -> Callable[..., Awaitable[None]]:
    """`await execute("UPDATE …", name=value)`: moves times, or sets up what a test stands on."""

    async def run(statement: str, **parameters: Any) -> None:
        async with database.all_tenants() as session:
            await session.execute(text(statement), parameters)

    return run


@pytest.fixture
def statuses(rows: Callable[..., Awaitable[list[Any]]]) -> Callable[[], Awaitable[list[str]]]:
    """`await statuses()`: the messages' statuses by schedule."""

    async def read() -> list[str]:
        return [row.status for row in await rows("SELECT status FROM messages ORDER BY schedule_id, run")]

    return read


@pytest.fixture
def limit(execute: Callable[..., Awaitable[None]], organisation: str) -> Callable[[str, str], Awaitable[None]]:
    """`await limit("sms_limit", "3")`: a config of the organisation."""

    async def put(name: str, value: str) -> None:
        await execute(
            "INSERT INTO configs (organisation_id, name, value) VALUES (:o, :n, :v)"
            " ON CONFLICT (organisation_id, name) DO UPDATE SET value = EXCLUDED.value",
            o=organisation,
            n=name,
            v=value,
        )

    return put


@pytest.fixture
def assign(execute: Callable[..., Awaitable[None]], organisation: str) -> Callable[..., Awaitable[None]]:
    """`await assign("+61491570006")`: the sender, in its canonical form, is the organisation's (or another's)."""

    async def put(sender: str, owner: str = organisation) -> None:
        await execute("INSERT INTO senders (sender, organisation_id) VALUES (:s, :o)", s=sender, o=owner)

    return put


@pytest.fixture
def explain() -> Callable[..., Awaitable[list[tuple[str, str]]]]:
    """`await explain(session, run)`: the statements that `run` executes, each with its plan."""

    async def collect(session: AsyncSession, run: Callable[[], Awaitable[None]]) -> list[tuple[str, str]]:
        connection = await session.connection()
        seen: list[tuple[str, Any]] = []

        def note(_: Connection, __: Any, statement: str, parameters: Any, *___: Any) -> None:
            seen.append((statement, parameters))

        event.listen(connection.sync_connection, "before_cursor_execute", note)
        await run()
        event.remove(connection.sync_connection, "before_cursor_execute", note)
        raw = (await connection.get_raw_connection()).driver_connection
        plans = [await raw.fetch("EXPLAIN " + statement, *parameters) for statement, parameters in seen]
        return [
            (statement, "\n".join(line[0] for line in plan)) for (statement, _), plan in zip(seen, plans, strict=True)
        ]

    return collect


Answer = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


class Carrier:
    """Speaks Mobile Message's format; `script` says how the next requests are answered, then all are accepted.

    Like the vendor it answers a key that it has answered before with the same words.
    """

    def __init__(self) -> None:
        self.url = ""
        self.script: deque[Answer] = deque()
        self.requests: list[tuple[str, bytes]] = []
        self.request_ids: list[str] = []
        self.taken: list[dict[str, Any]] = []
        self.answered: dict[str, bytes] = {}
        self.release = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        key = request.headers["Idempotency-Key"]
        self.requests.append((key, raw))
        self.request_ids.append(request.headers.get("X-Request-ID", ""))
        if self.script:
            return await self.script.popleft()(request, json.loads(raw))
        return await self.accept(request, json.loads(raw))

    async def accept(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        key = request.headers["Idempotency-Key"]
        if key not in self.answered:
            self.taken += body["messages"]
            results = [
                {**item, "status": "success", "message_id": f"mm-{item['custom_ref'].rpartition('-')[2]}"}
                for item in body["messages"]
            ]
            self.answered[key] = json.dumps({"status": "complete", "results": results}).encode()
        return web.Response(body=self.answered[key], content_type="application/json")

    async def take_and_reset(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        answer = await self.accept(request, body)
        assert request.transport is not None
        request.transport.abort()
        return answer

    async def take_and_wait(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        """Answers when `release` is set."""
        answer = await self.accept(request, body)
        await self.release.wait()
        return answer

    def answer(self, status: int, text: str = "", **headers: str) -> Answer:
        """An answer that takes nothing."""

        async def refuse(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
            return web.Response(status=status, text=text, headers=headers)

        return refuse

    def verdicts(self, *statuses: dict[str, Any] | None) -> Answer:
        """HTTP 200 with these per item, in reverse order; None leaves the item out."""

        async def judge(_: web.Request, body: dict[str, Any]) -> web.StreamResponse:
            results = [item | verdict for item, verdict in zip(body["messages"], statuses, strict=True) if verdict]
            return web.json_response({"status": "complete", "results": results[::-1]})

        return judge

    async def start(self) -> None:
        """Listens, on the port it had before if it had one."""
        app = web.Application()
        app.router.add_post("/v1/messages", self.handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", urlsplit(self.url).port or 0)
        await site.start()
        assert site._server is not None
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Refuses connections, and breaks those it has."""
        await self._runner.cleanup()


@pytest.fixture
async def carrier() -> AsyncIterator[Carrier]:
    """A carrier on a free port of this machine."""
    made = Carrier()
    await made.start()
    yield made
    made.release.set()
    await made.stop()


class Clock:
    """The time of breakers and buckets; `advance` lets some of it pass, after `stop` nothing else does."""

    def __init__(self) -> None:
        self._passed = 0.0
        self._stopped_at: float | None = None

    def __call__(self) -> float:
        return (self._stopped_at or time.monotonic()) + self._passed

    def stop(self) -> None:
        self._stopped_at = time.monotonic()

    def advance(self, seconds: float) -> None:
        self._passed += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def make_sender(
    carrier: Carrier, policy: Policy, make_settings: Callable[..., Settings], clock: Clock
) -> AsyncIterator[Callable[..., Sender]]:
    """`make_sender(**settings)`: a sender of SMS to the carrier."""
    made: list[Sender] = []

    def make(**changes: Any) -> Sender:
        given = {"mobile_message_base_url": carrier.url, "mobile_message_concurrency": 8} | changes
        made.append(Sender(MobileMessage(make_settings(**given)), ["sms"], policy, clock))
        return made[-1]

    yield make
    for sender in made:
        await sender.drain()
        await sender.provider.close()


@pytest.fixture
def claim(database: Database) -> Callable[[Sender], Awaitable[None]]:
    """`await claim(sender)`: claims once and starts the requests, as the only sender there is."""

    async def once(sender: Sender) -> None:
        await loops.send_queued(database, Router({"sms": [sender.provider.name]}, [sender]), sender)

    return once


@pytest.fixture
def send(database: Database, claim: Callable[[Sender], Awaitable[None]]) -> Callable[[Sender], Awaitable[None]]:
    """`await send(sender)`: claims once, waits for the answers, writes them."""

    async def once(sender: Sender) -> None:
        await claim(sender)
        await loops.drain(database, sender)

    return once


@pytest.fixture
def repeat(database: Database, execute: Callable[..., Awaitable[None]]) -> Callable[[Sender], Awaitable[None]]:
    """`await repeat(sender)`: makes every call due, settles them, waits for the answers, writes them."""

    async def once(sender: Sender) -> None:
        await execute("UPDATE calls SET due_at = now()")
        await loops.settle_calls(database, sender)
        await loops.drain(database, sender)

    return once
