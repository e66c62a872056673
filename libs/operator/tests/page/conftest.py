"""Fixtures of the operators' page: the page of the test's databases, issuers of tokens, and a browser's client."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization

from common.database import Database
from cooee.page.server import create_page
from cooee.page.settings import PageSettings
from cooee.stack import Stack
from tools.token import Issuer, Session, mint, signing_key

from ..test_stuck import add_message, add_schedule

ORIGIN = "http://127.0.0.1:8085"
OPERATORS, OPERATOR = "org_operators", "user_ana"
FERN, REED = "org_fern", "org_reed"
SECRET = "page-secret-page-secret-page-secret-0"
PHONE, MASKED = "+61491570006", "+614…06"
HOSTILE = "<script>alert(1)</script>"
_FORM_TOKEN = re.compile(r'name="form_token" value="([0-9a-f]{64})"')
Sql = Callable[..., Awaitable[list[Any]]]


@dataclass
class Browser:
    """A client that has the cookies of the page and sends forms as its pages would."""

    client: httpx.AsyncClient
    issuer: Issuer
    token: str = field(default="", repr=False)

    async def get(self, path: str) -> httpx.Response:
        """Open a page."""
        return await self.client.get(path)

    async def post(self, path: str, *, origin: str | None = ORIGIN, **fields: str) -> httpx.Response:
        """Send a form with the token of the session. `form_token` replaces it."""
        headers = {"Origin": origin} if origin else {}
        return await self.client.post(path, data={"form_token": self.token, **fields}, headers=headers)

    async def sign_in(self, **changes: Any) -> httpx.Response:
        """Sign in with a new token. The changes are those of its session."""
        return await self.send_token(self.mint(**changes))

    def mint(self, issuer: Issuer | None = None, **changes: Any) -> str:
        """Return a token of an operator, with changes."""
        values = {"user": OPERATOR, "organisation": OPERATORS, "role": "admin", "ttl_s": 60, **changes}
        return mint(Session(**values), issuer or self.issuer)

    async def send_token(self, token: str) -> httpx.Response:
        """Sign in with a token, and remember the token of the forms."""
        answer = await self.post("/sign-in", token=token)
        if answer.status_code == 303:
            found = _FORM_TOKEN.search((await self.get("/actions/republish")).text)
            assert found
            self.token = found[1]
        return answer


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    """Return an issuer of tokens with a key of its own."""
    return Issuer(tmp_path_factory.mktemp("issuer"), "https://clerk.example.com", "http://localhost:3000")


def public_pem(issuer: Issuer) -> str:
    """Return the public key of an issuer."""
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return signing_key(issuer.home).public_key().public_bytes(serialization.Encoding.PEM, kind).decode()


@pytest.fixture
def make_stack(urls: dict[str, str], issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stack]:
    """`make_stack(NAME="value")` returns the stack of the databases, with changed variables."""

    def make(**variables: str) -> Stack:
        environment = {
            **{f"{service.upper()}_DATABASE_URL": url for service, url in urls.items()},
            "GATEWAY_URL": "http://127.0.0.1:9",  # nothing listens there
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "INTERNAL_TOKEN_SECRET": "test-secret-test-secret-test-secret-0",
            "SMS_PROVIDERS": "mobile_message",
            "MOBILE_MESSAGE_USERNAME": "user",
            "MOBILE_MESSAGE_PASSWORD": "password",
            "MOBILE_MESSAGE_SENDER_ID": "Cooee",
            "OPERATORS_ORGANISATION": OPERATORS,
            "OPERATORS_SECRET": SECRET,
            "CLERK_ISSUER": issuer.name,
            "CLERK_JWT_KEY": public_pem(issuer),
            "CLERK_AUTHORIZED_PARTIES": issuer.party,
            **variables,
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return Stack(environment)

    return make


OpenBrowser = Callable[..., Browser]


@pytest.fixture
async def open_browser(
    make_stack: Callable[..., Stack], databases: dict[str, Database], issuer: Issuer
) -> AsyncIterator[OpenBrowser]:
    """`open_browser(NAME="value")` opens a page with changed variables, without a session."""
    clients = []

    def new(*, origin: str = ORIGIN, **variables: str) -> Browser:
        stack = make_stack(**variables)
        app = create_page(stack.read_settings(PageSettings, "the page"), stack)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        clients.append(httpx.AsyncClient(transport=transport, base_url=origin))
        return Browser(clients[-1], issuer)

    yield new
    for client in clients:
        await client.aclose()


@pytest.fixture
async def browser(open_browser: OpenBrowser) -> Browser:
    """Return a browser in which an operator is signed in."""
    browser = open_browser()
    assert (await browser.sign_in()).status_code == 303
    return browser


@dataclass(frozen=True)
class World:
    """Ids of what two organisations have."""

    schedule: int
    message: int
    dead_letter: int


@pytest.fixture
async def world(sql: Sql) -> World:
    """Store two organisations with users, messages, usage, configs, batches, a dead letter and an inbound message."""
    for organisation, name in ((FERN, f"Fern {HOSTILE}"), (REED, "Reed Dental")):
        await sql(
            "contacts",
            "INSERT INTO organisations (organisation_id, name, slug) VALUES (:id, :name, 'slug')",
            id=organisation,
            name=name,
        )
        (user,) = await sql(
            "contacts",
            "INSERT INTO users (clerk_id, first_name, last_name, email)"
            " VALUES (:clerk, 'Ana', 'Lee', 'ana@example.com') RETURNING id",
            clerk=f"user_of_{organisation}",
        )
        await sql(
            "contacts",
            "INSERT INTO memberships (organisation_id, user_id, role) VALUES (:organisation, :user, 'admin')",
            organisation=organisation,
            user=user.id,
        )
    schedule = await add_schedule(sql, FERN, "delivered", text=f"'{HOSTILE}'")
    values = {"schedule_id": str(schedule), "provider": "'twilio'", "provider_message_id": "'SM00123'"}
    message = await add_message(sql, FERN, "delivered", text=f"'{HOSTILE}'", **values)
    await add_message(sql, REED, "queued", created_at="now() - interval '1 hour'")
    await sql("delivery", f"INSERT INTO limit_usage VALUES ('{FERN}', date '2026-11-01', 'sms', 41)")
    for organisation, limit in ((FERN, "100"), (REED, "7777")):
        await sql(
            "delivery",
            "INSERT INTO configs (organisation_id, name, value) VALUES (:organisation, 'sms_limit', :value)",
            organisation=organisation,
            value=limit,
        )
    await sql("delivery", f"INSERT INTO sender_ids (sender_id, organisation_id) VALUES ('fernclinic', '{FERN}')")
    await sql("delivery", f"INSERT INTO opt_outs VALUES ('{FERN}', '{PHONE}', true, now(), 'reply', NULL, 1)")
    await sql(
        "delivery",
        "INSERT INTO inbound_messages (phone, to_number, text, received_at, provider, keyword)"
        f" VALUES ('{PHONE}', 'nobody', 'Stop it', now(), 'twilio', 'stop')",
    )
    (letter,) = await sql(
        "scheduling",
        "INSERT INTO dead_letters (topic, kafka_partition, kafka_offset, sha256, key, body, error)"
        " VALUES ('delivery.message-sent.v1', 3, 0, sha256(:body), 'k7', :body, :error) RETURNING id",
        body=f'{{"phone": "{PHONE}"}}'.encode(),
        error=f"version: {HOSTILE}",
    )
    return World(schedule, message, letter.id)
