"""The contacts service as its callers see it: its application on a real database, with the service's own roles."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from common.database import Database
from contacts.app import create_app
from contacts.settings import Settings
from services.contacts.tests.other_services import StandIn

WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TOKEN_SECRET = "test-secret-test-secret-test-secret-0"


@pytest.fixture(scope="session")
def contacts_url(service_url: Callable[[str], str]) -> str:
    """Create the service's schema, before any event loop runs, and return its URL."""
    return service_url("contacts")


@pytest.fixture(scope="session")
async def delivery_server() -> AsyncIterator[StandIn]:
    """Serve delivery on a free port."""
    async with StandIn("delivery", TOKEN_SECRET) as server:
        yield server


@pytest.fixture(scope="session")
async def scheduling_server() -> AsyncIterator[StandIn]:
    """Serve scheduling on a free port."""
    async with StandIn("scheduling", TOKEN_SECRET) as server:
        yield server


@pytest.fixture(scope="session")
def settings(contacts_url: str, delivery_server: StandIn, scheduling_server: StandIn) -> Settings:
    return Settings(
        delivery_url=delivery_server.url,
        scheduling_url=scheduling_server.url,
        database_url=contacts_url,
        internal_token_secret=TOKEN_SECRET,
        kafka_bootstrap_servers="127.0.0.1:1",
        clerk_webhook_signing_secret=WEBHOOK_SECRET,
        port=0,
        worker_port=0,
    )


@pytest.fixture(scope="session")
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    app = create_app(settings)
    yield app
    await app.state.services.close()
    await app.state.database.close()


@pytest.fixture
async def database(
    contacts_url: str, open_database: Callable[[str, str], Awaitable[Database]]
) -> AsyncIterator[Database]:
    """The service's own database, emptied."""
    database = await open_database(contacts_url, "contacts")
    yield database
    await database.close()


class Client:
    """A caller of one organisation: a member of it, or another service on its behalf."""

    def __init__(self, http: httpx.AsyncClient, headers: dict[str, str]) -> None:
        self.http = http
        self.headers = headers

    async def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        return await self.http.request(method, path, headers=self.headers, **more)

    async def get(self, path: str, **params: Any) -> Any:
        answer = await self.call("GET", path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: Any, status: int = 201) -> Any:
        answer = await self.call("POST", path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def put(self, path: str, body: Any, status: int = 200) -> Any:
        answer = await self.call("PUT", path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def patch(self, path: str, body: Any, status: int = 200) -> Any:
        answer = await self.call("PATCH", path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def add_contact(self, phone: Any, **fields: Any) -> Any:
        return await self.post("/api/contacts/", {"phone": phone, **fields})

    async def get_contact(self, contact_id: int) -> Any:
        return await self.get(f"/api/contacts/{contact_id}/")

    async def delete_contact(self, contact_id: int) -> None:
        assert (await self.call("DELETE", f"/api/contacts/{contact_id}/")).status_code == 204

    async def add_group(self, name: str, *member_ids: int) -> Any:
        return await self.post("/api/groups/", {"name": name, "member_ids": list(member_ids)})

    async def get_group(self, group_id: int) -> Any:
        return await self.get(f"/api/groups/{group_id}/")

    async def upload(self, content: bytes | str, name: str = "list.csv", **params: Any) -> httpx.Response:
        body = content.encode() if isinstance(content, str) else content
        return await self.call("POST", "/api/contacts/import/", params=params, files={"file": (name, body, "text/csv")})


ClientOf = Callable[..., Client]


@dataclass(frozen=True)
class Stage:
    """The service with an empty database, and its callers.

    `mine` is a member of the organisation org_mine, `theirs` of org_theirs. `scheduling` and `gateway` are services.
    `delivery_server` and `scheduling_server` stand in for the services that contacts calls.
    """

    app: FastAPI
    database: Database
    http: httpx.AsyncClient
    client_of: ClientOf
    read_outbox: Callable[[Database], Awaitable[list[Any]]]
    mine: Client
    theirs: Client
    scheduling: Client
    gateway: Client
    delivery_server: StandIn
    scheduling_server: StandIn

    async def events(self) -> list[Any]:
        """Return the events in the outbox, in order."""
        return await self.read_outbox(self.database)

    async def run_sql(self, statement: str, **values: Any) -> Sequence[Any]:
        """Run a statement across all organisations."""
        async with self.database.all_tenants() as session:
            result = await session.execute(text(statement), values)
            return result.all() if result.returns_rows else []  # type: ignore[attr-defined]


@pytest.fixture
def stage(
    app: FastAPI,
    database: Database,
    delivery_server: StandIn,
    scheduling_server: StandIn,
    serve: Callable[[Any], httpx.AsyncClient],
    bearer: Callable[..., dict[str, str]],
    outbox_events: Callable[[Database], Awaitable[list[Any]]],
) -> Stage:
    http = serve(app)
    delivery_server.reset()
    scheduling_server.reset()

    def client_of(organisation_id: str, **more: Any) -> Client:
        """Return a member's client, or with `issuer="delivery"` the client of another service."""
        return Client(http, bearer("contacts", organisation_id, **more))

    return Stage(
        app=app,
        database=database,
        http=http,
        client_of=client_of,
        read_outbox=outbox_events,
        mine=client_of("org_mine"),
        theirs=client_of("org_theirs"),
        scheduling=client_of("org_mine", issuer="scheduling", role="system", user_id=None),
        gateway=client_of("", issuer="gateway", role="system", user_id=None),
        delivery_server=delivery_server,
        scheduling_server=scheduling_server,
    )
