"""Scheduling as its own roles see it, and stand-ins for its services that speak the real wire format."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from common.caller import Caller
from common.database import Database
from scheduling.app import create_app
from scheduling.clients.services import OtherServices
from scheduling.dispatch.loops import dispatch_due
from scheduling.settings import Settings

from .other_services import ContactsStandIn, DeliveryStandIn

SECRET = "test-secret-test-secret-test-secret-0"


@pytest.fixture(scope="session")
async def contacts_server() -> AsyncIterator[ContactsStandIn]:
    async with ContactsStandIn(SECRET) as server:
        yield server


@pytest.fixture(scope="session")
async def delivery_server() -> AsyncIterator[DeliveryStandIn]:
    async with DeliveryStandIn(SECRET) as server:
        yield server


@pytest.fixture
def contacts(contacts_server: ContactsStandIn) -> ContactsStandIn:
    contacts_server.forget()
    return contacts_server


@pytest.fixture
def delivery(delivery_server: DeliveryStandIn) -> DeliveryStandIn:
    delivery_server.forget()
    return delivery_server


@pytest.fixture(scope="session")
def scheduling_url(service_url: Callable[[str], str]) -> str:
    return service_url("scheduling")


@pytest.fixture(scope="session")
def settings(scheduling_url: str, contacts_server: ContactsStandIn, delivery_server: DeliveryStandIn) -> Settings:
    return Settings(
        port=0,
        worker_port=0,
        database_url=SecretStr(scheduling_url),
        kafka_bootstrap_servers="127.0.0.1:1",
        internal_token_secret=SecretStr(SECRET),
        contacts_url=contacts_server.url,
        delivery_url=delivery_server.url,
        sweep_after_s=20,
    )


@pytest.fixture
async def database(
    scheduling_url: str, open_database: Callable[[str, str], Awaitable[Database]]
) -> AsyncIterator[Database]:
    database = await open_database(scheduling_url, "scheduling")
    yield database
    await database.close()


@pytest.fixture
async def services(
    settings: Settings, contacts: ContactsStandIn, delivery: DeliveryStandIn
) -> AsyncIterator[OtherServices]:
    services = OtherServices.connect(settings)
    yield services
    await services.close()


@pytest.fixture(scope="session")
async def app(settings: Settings) -> AsyncIterator[Any]:
    app = create_app(settings)
    yield app
    await app.state.services.close()
    await app.state.database.close()


class Client:
    """The API as one member of one organisation calls it."""

    def __init__(self, http: httpx.AsyncClient, headers: dict[str, str]) -> None:
        self.http, self.headers = http, headers

    async def __call__(self, method: str, path: str, json: Any = None, **more: Any) -> httpx.Response:
        headers = {**self.headers, **more.pop("headers", {})}
        return await self.http.request(method, path, json=json, headers=headers, **more)

    async def ok(self, method: str, path: str, json: Any = None, **more: Any) -> Any:
        answer = await self(method, path, json, **more)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None


@pytest.fixture
def client_of(
    app: Any,
    serve: Callable[[Any], httpx.AsyncClient],
    bearer: Callable[..., dict[str, str]],
    database: Database,
    contacts: ContactsStandIn,
    delivery: DeliveryStandIn,
) -> Callable[..., Client]:
    http = serve(app)
    return lambda organisation, **more: Client(http, bearer("scheduling", organisation, **more))


@pytest.fixture
def client(client_of: Callable[..., Client], organisation: str) -> Client:
    return client_of(organisation)


@pytest.fixture
def other(client_of: Callable[..., Client]) -> Client:
    """Somebody of another organisation."""
    return client_of("org_other")


@pytest.fixture
def caller(organisation: str) -> Caller:
    return Caller(organisation_id=organisation, user_id=1, role="member", issuer="gateway")


@pytest.fixture
def row_of(database: Database) -> Callable[[int], Awaitable[Any]]:
    """`await row_of(id)`: the row in the table, as all organisations' role sees it."""

    async def read(schedule_id: int) -> Any:
        async with database.all_tenants() as session:
            return (await session.execute(text("SELECT * FROM schedules WHERE id = :id"), {"id": schedule_id})).one()

    return read


@pytest.fixture
def make_due(database: Database) -> Callable[..., Awaitable[None]]:
    """Moves the times of schedules (all by default) to a second ago: the clock itself is the database's."""

    async def move(*ids: int) -> None:
        async with database.all_tenants() as session:
            await session.execute(
                text(
                    "UPDATE schedules SET scheduled_time = now() - interval '1 second',"
                    " next_due_at = CASE WHEN kind = 'batch' THEN now() - interval '1 second' END"
                    " WHERE status = 'pending' AND scheduled_time IS NOT NULL"
                    " AND (CAST(:ids AS bigint[]) = '{}' OR id = ANY(CAST(:ids AS bigint[])))"
                ),
                {"ids": list(ids)},
            )

    return move


@pytest.fixture
def run_sql(database: Database) -> Callable[..., Awaitable[Any]]:
    async def run(statement: str, **values: Any) -> Any:
        async with database.all_tenants() as session:
            result = await session.execute(text(statement), values)
            return result.all() if result.returns_rows else None

    return run


@pytest.fixture
def soon() -> str:
    """A time that can be scheduled."""
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


@pytest.fixture
def dispatch(database: Database, settings: Settings) -> Callable[..., Awaitable[None]]:
    """`await dispatch(bulk_window=5)`: claims until there is nothing more."""

    async def run(**changes: Any) -> None:
        while await dispatch_due(database, settings.model_copy(update=changes)):
            pass

    return run


@pytest.fixture
def make_group(contacts: ContactsStandIn, organisation: str) -> Callable[[int], int]:
    """`make_group(3)`: the id of a group of new contacts."""
    return lambda size: contacts.add_group(
        organisation, [contacts.add(organisation)["contact_id"] for _ in range(size)]
    )


@pytest.fixture
def make_batch(client: Client, make_group: Callable[[int], int], soon: str) -> Callable[..., Awaitable[Any]]:
    """`await make_batch(3, text="…")`: a group schedule for later, as POST answers it."""

    async def make(size: int, **fields: Any) -> Any:
        body = {"name": "June", "group_id": make_group(size), "text": "Hi {{first_name}}", "scheduled_time": soon}
        return await client.ok("POST", "/api/group-schedules/", {**body, **fields})

    return make


@pytest.fixture
def make_schedule(client: Client, soon: str) -> Callable[..., Awaitable[Any]]:
    """`await make_schedule(text="…")`: a schedule for later, as POST answers it."""

    async def make(**fields: Any) -> Any:
        body = {"phone": "0491000999", "text": "Hello", "scheduled_time": soon}
        return await client.ok("POST", "/api/schedules/", {**body, **fields})

    return make
