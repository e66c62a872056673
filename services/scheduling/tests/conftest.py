"""Fixtures of scheduling's tests: its database and API, the stand-ins, and the stage that has all of them."""

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from common.combining import Combiner
from common.database import Database
from scheduling.app import create_app
from scheduling.clients.services import OtherServices
from scheduling.sends.service import Sends
from scheduling.settings import Settings
from services.scheduling.tests.other_services import ContactsStandIn, DeliveryStandIn
from services.scheduling.tests.stage import Client, Stage

SECRET = "test-secret-test-secret-test-secret-0"


@pytest.fixture(scope="session")
async def contacts_server() -> AsyncIterator[ContactsStandIn]:
    """Serve contacts on a free port."""
    async with ContactsStandIn(SECRET) as server:
        yield server


@pytest.fixture(scope="session")
async def delivery_server() -> AsyncIterator[DeliveryStandIn]:
    """Serve delivery on a free port."""
    async with DeliveryStandIn(SECRET) as server:
        yield server


@pytest.fixture(scope="session")
def scheduling_url(service_url: Callable[[str], str]) -> str:
    """Return the URL of scheduling's database, migrated."""
    return service_url("scheduling")


@pytest.fixture(scope="session")
def settings(scheduling_url: str, contacts_server: ContactsStandIn, delivery_server: DeliveryStandIn) -> Settings:
    """Return settings that point to the stand-ins."""
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
    """Open scheduling's database, with empty tables."""
    opened = await open_database(scheduling_url, "scheduling")
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    """Return the API's application."""
    app = create_app(settings)
    yield app
    await app.state.services.close()
    await app.state.database.close()


@pytest.fixture
def client_of(
    app: FastAPI, serve: Callable[[FastAPI], httpx.AsyncClient], bearer: Callable[..., dict[str, str]]
) -> Callable[..., Client]:
    """`client_of(organisation, **claims)` returns a client with an internal token of these claims."""
    http = serve(app)
    return lambda organisation, **claims: Client(http, bearer("scheduling", organisation, **claims))


@pytest.fixture
async def stage(
    app: FastAPI,
    settings: Settings,
    contacts_server: ContactsStandIn,
    delivery_server: DeliveryStandIn,
    database: Database,
    organisation: str,
    client_of: Callable[..., Client],
) -> AsyncIterator[Stage]:
    """Return the stage, with empty tables and stand-ins."""
    contacts_server.reset()
    delivery_server.reset()
    app.state.new_sends = Combiner(Sends().accept)  # the sequence of the emptied table has restarted
    services = OtherServices.connect(settings)
    yield Stage(
        organisation=organisation,
        client=client_of(organisation),
        other=client_of("org_other"),
        delivery_client=client_of("", role="system", issuer="delivery", user_id=None),
        contacts=contacts_server,
        delivery=delivery_server,
        services=services,
        settings=settings,
        database=database,
    )
    await services.close()
