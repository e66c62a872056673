"""The service as its callers see it: its application on a real database, as the service's own roles."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from common.database import Database
from contacts.app import create_app
from contacts.settings import Settings

WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="session")
def contacts_url(service_url: Callable[[str], str]) -> str:
    """The service's database, made before any event loop runs."""
    return service_url("contacts")


@pytest.fixture(scope="session")
def settings(contacts_url: str) -> Settings:
    return Settings(
        database_url=contacts_url,
        internal_token_secret="test-secret-test-secret-test-secret-0",
        kafka_bootstrap_servers="127.0.0.1:1",
        clerk_webhook_signing_secret=WEBHOOK_SECRET,
        port=0,
        worker_port=0,
    )


@pytest.fixture(scope="session")
async def app(settings: Settings) -> AsyncIterator[Any]:
    app = create_app(settings)
    yield app
    await app.state.database.close()


@pytest.fixture
async def database(
    contacts_url: str, open_database: Callable[[str, str], Awaitable[Database]]
) -> AsyncIterator[Database]:
    """The service's own database, emptied."""
    database = await open_database(contacts_url, "contacts")
    yield database
    await database.close()


@pytest.fixture
def run_sql(database: Database) -> Callable[..., Awaitable[Any]]:
    """`await run_sql("…", id=1)`: a statement across all organisations."""

    async def run(statement: str, **values: Any) -> Any:
        async with database.all_tenants() as session:
            result = await session.execute(text(statement), values)
            return result.all() if result.returns_rows else None  # type: ignore[attr-defined]

    return run


class Client:
    """One member of one organisation."""

    def __init__(self, http: httpx.AsyncClient, headers: dict[str, str]) -> None:
        self._http, self._headers = http, headers

    async def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        return await self._http.request(method, path, headers=self._headers, **more)

    async def get(self, path: str, **params: Any) -> Any:
        answer = await self.call("GET", path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: Any, status: int = 201) -> Any:
        answer = await self.call("POST", path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def patch(self, path: str, body: Any, status: int = 200) -> Any:
        answer = await self.call("PATCH", path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def contact(self, phone: str, **fields: Any) -> Any:
        return await self.post("/api/contacts/", {"phone": phone, **fields})

    async def group(self, name: str, *member_ids: int) -> Any:
        return await self.post("/api/groups/", {"name": name, "member_ids": list(member_ids)})

    async def upload(self, content: bytes | str, name: str = "list.csv", **params: Any) -> httpx.Response:
        body = content.encode() if isinstance(content, str) else content
        return await self.call("POST", "/api/contacts/import/", params=params, files={"file": (name, body, "text/csv")})


@pytest.fixture
def client_of(app: Any, serve: Callable[[Any], httpx.AsyncClient], bearer: Callable[..., dict[str, str]]) -> Any:
    """`client_of("org_1", user_id=2)`: a member's client; `issuer="scheduling"` for a neighbour's."""
    http = serve(app)

    def make(organisation_id: str, **more: Any) -> Client:
        return Client(http, bearer("contacts", organisation_id, **more))

    return make


@pytest.fixture
def mine(database: Database, client_of: Any) -> Client:
    """A member of the organisation that most tests are about."""
    return client_of("org_mine")


@pytest.fixture
def theirs(database: Database, client_of: Any) -> Client:
    """A member of another organisation."""
    return client_of("org_theirs")


@pytest.fixture
def neighbour(database: Database, client_of: Any) -> Client:
    """Scheduling, on behalf of the same organisation."""
    return client_of("org_mine", issuer="scheduling", role="system", user_id=None)
