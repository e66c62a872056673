"""A gateway on a real socket, with test servers in place of the services and of Clerk."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import jwt
import pytest
import uvicorn
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.caller import Caller, verify
from common.http.server_limits import HttpLimits, server_options
from gateway.app import create_app
from gateway.settings import Settings

SECRET = "test-secret-test-secret-test-secret-0"
ISSUER = "https://clerk.test"


class Clock:
    """A clock that only a test moves."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@dataclass
class Upstream:
    """A test server in place of a service. It stores the requests, and the query of a request controls the answer.

    With `reply` it answers every request with this status, these headers and this body.
    """

    name: str
    url: str = ""
    openapi: dict[str, Any] = field(default_factory=dict)
    details: tuple[int, Any] = (200, {"api": "ok", "database": "ok"})
    identity: tuple[int, Any] = (200, {"organisation_id": "org_7", "user_id": 42})
    identity_requests: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    reply: tuple[int, dict[str, str], bytes] | None = None

    def reset(self) -> None:
        fresh = Upstream(self.name)
        self.details, self.identity, self.openapi = fresh.details, fresh.identity, {}
        self.reply = None
        self.requests, self.identity_requests, self.gate = [], [], fresh.gate

    def caller(self) -> Caller:
        """Return the caller in the internal token of the last request."""
        return verify(
            self.requests[-1]["headers"]["authorization"],
            audience=self.name,
            issuers=frozenset({"gateway"}),
            secret=SECRET,
        )

    async def answer_identity(self, request: web.Request) -> web.Response:
        caller = verify(
            request.headers.get("Authorization"), audience=self.name, issuers=frozenset({"gateway"}), secret=SECRET
        )
        self.identity_requests.append({**await request.json(), "caller": caller})
        if request.headers.get("X-Request-ID") == "gated":
            await self.gate.wait()
        status, body = self.identity
        return web.json_response(body, status=status)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        received = {
            "service": self.name,
            "method": request.method,
            "path": request.path,
            "raw": request.raw_path,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "size": len(body),
            "body": body[:200].decode("latin-1"),
        }
        self.requests.append(received)
        if self.reply is not None:
            status, headers, content = self.reply
            return web.Response(body=content, status=status, headers=headers)
        if "wait" in request.query:
            await self.gate.wait()
        if "chunks" in request.query:
            return await self._stream(request, int(request.query["chunks"]), broken="broken" in request.query)
        headers = {
            "Idempotent-Replayed": "true",
            "Connection": "X-Secret",
            "X-Secret": "1",
            "X-Request-ID": "of-the-service",
        }
        return web.json_response(received, status=int(request.query.get("status", 200)), headers=headers)

    async def _stream(self, request: web.Request, chunks: int, broken: bool) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"} if "json" in request.query else None)
        await response.prepare(request)
        for _ in range(chunks):
            await response.write(b"x" * 65_536)
        if "gated" in request.query:
            await self.gate.wait()
        if broken:
            assert request.transport is not None
            request.transport.abort()
        return response

    async def answer_details(self, _: web.Request) -> web.Response:
        status, body = self.details
        return web.json_response(body, status=status)

    async def answer_openapi(self, _: web.Request) -> web.Response:
        return web.json_response(self.openapi, status=200 if self.openapi else 404)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=30_000_000)
        app.router.add_post("/internal/identity/", self.answer_identity)
        app.router.add_get("/health/details", self.answer_details)
        app.router.add_get("/openapi.json", self.answer_openapi)
        app.router.add_route("*", "/{path:.*}", self.answer)
        return app


async def listen(app: web.Application) -> tuple[web.AppRunner, str]:
    """Serve an application on a free port and return its URL."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


@pytest.fixture(scope="session")
async def running_upstreams() -> AsyncIterator[dict[str, Upstream]]:
    servers, runners = {}, []
    for name in ("contacts", "scheduling", "delivery"):
        servers[name] = Upstream(name)
        runner, servers[name].url = await listen(servers[name].app())
        runners.append(runner)
    yield servers
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
def upstreams(running_upstreams: dict[str, Upstream]) -> Iterator[dict[str, Upstream]]:
    yield running_upstreams
    for upstream in running_upstreams.values():
        upstream.gate.set()
        upstream.reset()


@dataclass
class Issuer:
    """Signs session tokens as Clerk does."""

    kid: str = "ins_1"
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    jwks_url: str = ""
    fetches: int = 0
    broken: bool = False
    published: list[dict[str, Any]] = field(default_factory=list)

    @property
    def pem(self) -> str:
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def jwk(self) -> dict[str, Any]:
        shape = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {**shape, "kid": self.kid, "alg": "RS256", "use": "sig"}

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return version 2 claims of an active session with changes. None removes a claim."""
        now = int(time.time())
        claims = {
            "azp": "https://app.test",
            "exp": now + 60,
            "iat": now,
            "nbf": now - 10,
            "iss": ISSUER,
            "sid": "sess_1",
            "sts": "active",
            "sub": "user_1",
            "v": 2,
            "fea": "o:messages,o:contacts",
            "o": {"id": "org_7", "slg": "example-co", "rol": "admin", "per": "send,read", "fpm": "3,2"},
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, **changes: Any) -> str:
        return jwt.encode(self.claims(**changes), self.key, algorithm="RS256", headers={"kid": self.kid})

    def headers(self, **changes: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(**changes)}"}


@pytest.fixture(scope="session")
async def running_issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()

    async def jwks(_: web.Request) -> web.Response:
        issuer.fetches += 1
        return web.json_response({"keys": issuer.published}, status=500 if issuer.broken else 200)

    app = web.Application()
    app.router.add_get("/jwks", jwks)
    runner, url = await listen(app)
    issuer.jwks_url = f"{url}/jwks"
    yield issuer
    await runner.cleanup()


@pytest.fixture
def issuer(running_issuer: Issuer) -> Issuer:
    running_issuer.published, running_issuer.fetches, running_issuer.broken = [running_issuer.jwk()], 0, False
    return running_issuer


@pytest.fixture
def settings(upstreams: dict[str, Upstream], issuer: Issuer) -> Callable[..., Settings]:
    """`settings(cors_allowed_origins="…")` returns the gateway's settings with changes."""

    def make(**changes: Any) -> Settings:
        values = {
            "port": 0,
            "metrics_port": 0,
            "internal_token_secret": SECRET,
            "contacts_url": upstreams["contacts"].url,
            "scheduling_url": upstreams["scheduling"].url,
            "delivery_url": upstreams["delivery"].url,
            **{f"{name}_worker_url": upstream.url for name, upstream in upstreams.items()},
            "clerk_issuer": ISSUER,
            "clerk_jwks_url": issuer.jwks_url,
            "valkey_url": None,
        }
        return Settings(**{**values, **changes})

    return make


Start = Callable[..., str]


@pytest.fixture
def start(settings: Callable[..., Settings]) -> Iterator[Start]:
    """`start(**changes)` runs a gateway in a thread of its own and returns its URL."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def run(**changes: Any) -> str:
        values = settings(**changes)
        config = uvicorn.Config(create_app(values), port=0, log_config=None, **server_options(HttpLimits.of(values)))
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        running.append((server, thread))
        deadline = time.monotonic() + 10
        while not server.started:
            if time.monotonic() > deadline or not thread.is_alive():
                pytest.fail("the gateway did not start")
            time.sleep(0.005)
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    yield run
    for server, thread in running:
        server.should_exit = True
        thread.join(10)


@pytest.fixture
async def gateway(start: Start) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of a gateway with default settings."""
    async with aiohttp.ClientSession(start()) as client:
        yield client
