"""Delivery's application with a fake of contacts' internal API."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from aiohttp import web
from sqlalchemy import text

from common.caller import verify
from common.database import Database
from delivery.app import create_app
from delivery.settings import Settings
from tools.embedded.processes import free_port

SECRET = "test-secret-test-secret-test-secret-0"
PHONE = "+61453000001"


class Contacts:
    """A fake of contacts: the phones of contacts by (organisation, id)."""

    def __init__(self) -> None:
        self.phones: dict[tuple[str, int], str] = {}
        self.is_unavailable = False

    async def get(self, request: web.Request) -> web.StreamResponse:
        if self.is_unavailable:
            return web.Response(status=503, text="{}")
        caller = verify(
            request.headers["Authorization"], audience="contacts", issuers=frozenset({"delivery"}), secret=SECRET
        )
        number = int(request.match_info["id"])
        phone = self.phones.get((caller.organisation_id, number))
        if phone is None:
            return web.json_response({"detail": "Not found.", "code": "not_found"}, status=404)
        state = {"contact_id": number, "version": 1, "phone": phone, "is_active": True, "opt_out": False}
        return web.json_response(state)


@pytest.fixture
def contacts() -> Contacts:
    """Return the fake of contacts."""
    return Contacts()


@pytest.fixture
async def client(
    database: Database,
    make_settings: Callable[..., Settings],
    serve: Callable[[Any], httpx.AsyncClient],
    contacts: Contacts,
) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of delivery's application, which calls the fake of contacts."""
    port = free_port()
    fake = web.Application()
    fake.router.add_get("/internal/contacts/{id}/", contacts.get)
    runner = web.AppRunner(fake, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    app = create_app(make_settings(contacts_url=f"http://127.0.0.1:{port}"))
    async with serve(app) as client, app.router.lifespan_context(app):
        yield client
    await runner.cleanup()


@pytest.fixture
def add(database: Database, organisation: str) -> Callable[..., Awaitable[int]]:
    """`await add("outbound", **columns)` inserts a message and returns its id."""

    async def insert(direction: str, **changes: Any) -> int:
        moment = changes.pop("time", datetime.now(UTC))
        row: dict[str, Any] = {"organisation_id": organisation, "phone": PHONE, "text": "Hi", **changes}
        if direction == "outbound":
            defaults = {
                "dispatch_number": 1,
                "format": "sms",
                "parts": 1,
                "lane": "bulk",
                "request_id": "",
                "status": "sent",
            }
            dates = {"period": moment.date(), "scheduled_time": moment, "deadline": moment, "created_at": moment}
            row = {**defaults, **dates, **row}
        else:
            row = {"to_number": "+61491570006", "provider": "log", "received_at": moment, **row}
        table = "messages" if direction == "outbound" else "inbound_messages"
        names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
        async with database.all_tenants() as session:
            result = await session.execute(text(f"INSERT INTO {table} ({names}) VALUES ({values}) RETURNING id"), row)
            return int(result.scalar_one())

    return insert


@pytest.fixture
def get(
    client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], organisation: str
) -> Callable[..., Awaitable[Any]]:
    """`await get("/api/messages/?…", organisation)` returns the JSON of an answer with `status`."""

    async def read(path: str, caller: str = organisation, status: int = 200) -> Any:
        answer = await client.get(path, headers=bearer("delivery", caller))
        assert answer.status_code == status, answer.text
        return answer.json()

    return read
