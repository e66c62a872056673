"""Fixtures of the tests of the whole system: one embedded stack that they share, and clients of its gateway."""

import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from tools.embedded.supervisor import Stack
from tools.token import Issuer, Session, mint

SETTINGS = {
    "THROTTLE_RATE_ANON": "100000/min",
    "THROTTLE_RATE_USER": "100000/min",
    "THROTTLE_RATE_SMS": "100000/min",
    "THROTTLE_RATE_IMPORT": "100000/min",
}


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Start the stack for tests that use it from outside and leave its processes alone."""
    async with Stack(tmp_path_factory.mktemp("stack"), SETTINGS, free_ports=True) as running:
        yield running


@dataclass
class Answer:
    """The answer to a request."""

    status: int
    headers: dict[str, str]
    body: Any


@dataclass
class Client:
    """Sends requests through the gateway as the user of a session. Without a session they are anonymous."""

    http: aiohttp.ClientSession
    gateway: str
    issuer: Issuer
    session: Session | None = None
    headers: dict[str, str] = field(default_factory=dict)

    async def __call__(self, method: str, path: str, json: Any = None, **more: Any) -> Answer:
        """Send a request and return its answer, with a JSON body parsed."""
        headers = {**self.headers, **more.pop("headers", {})}
        if self.session is not None:
            headers["Authorization"] = f"Bearer {mint(self.session, self.issuer)}"
        async with self.http.request(method, self.gateway + path, json=json, headers=headers, **more) as answer:
            content = await answer.read()
            kind = answer.headers.get("content-type", "")
            body = await answer.json() if content and "json" in kind else content
            return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, body)


ClientOf = Callable[..., Client]


@pytest.fixture(scope="session")
async def client_of(stack: Stack) -> AsyncIterator[ClientOf]:
    """`client_of(organisation, role="member", user="user_1")` returns a client. None as organisation: anonymous."""
    issuer = Issuer(stack.home, stack.environment["CLERK_ISSUER"])
    async with aiohttp.ClientSession() as http:

        def make(organisation: str | None, role: str = "member", user: str = "user_1") -> Client:
            session = None if organisation is None else Session(user, organisation, role)
            return Client(http, stack.url("gateway"), issuer, session)

        yield make


@pytest.fixture
def new_organisation() -> Callable[[], str]:
    """`new_organisation()` returns the id of a new organisation."""
    return lambda: f"org_{secrets.token_hex(6)}"
