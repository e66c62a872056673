"""A preferred carrier in trouble in the middle of sending: nothing lost or doubled, nobody's chain passed over."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from common.sms import measure
from tests.chaos.test_kills import SETTINGS, taken
from tools.demo.journey import CSV, Api, check_exactly_once, expected_messages, read_handset, run_journey
from tools.embedded.processes import free_port, request_death_signal
from tools.embedded.supervised import REPOSITORY
from tools.embedded.supervisor import Stack
from tools.token import Issuer, Session, mint

pytestmark = pytest.mark.stack

CHAINS = {"SMS_PROVIDERS": "mobile_message,twilio", "TWILIO_CONCURRENCY": "8"}
_ROWS = 500
_OWN_CHAIN = 10  # messages of each organisation that has its own
_SOMEBODY = "+61453999999"  # whom they write to


class Handset:
    """A second handset in a process of its own: Mobile Message's, while the stack's own is Twilio's."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        more = {"HANDSET_PORT": str(self.port), "HANDSET_LOG": str(self.home / "second.jsonl")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tools.handset"],
            cwd=REPOSITORY,
            env={**self.environment, **more},
            preexec_fn=request_death_signal(signal.SIGKILL),  # noqa: PLW1509 (forked by the main thread)
        )

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)
        if number == signal.SIGKILL:
            self._process.wait()


class Front:
    """What stands before the second handset and spoils its answers: the request is taken, its sender hears nonsense."""

    def __init__(self, behind: str) -> None:
        self.spoils = False
        self.spoilt = 0
        self._behind = behind
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self.port = free_port()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._pass)
        self._session = aiohttp.ClientSession()
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        assert self._runner is not None
        assert self._session is not None
        await self._runner.cleanup()
        await self._session.close()

    async def _pass(self, request: web.Request) -> web.Response:
        assert self._session is not None
        assert request.transport is not None
        headers = {name: request.headers[name] for name in ("Authorization", "Idempotency-Key", "Content-Type")}
        try:
            async with self._session.post(
                self._behind + request.path, data=await request.read(), headers=headers
            ) as answer:
                status, body = answer.status, await answer.read()
        except aiohttp.ClientError:  # the handset is gone: so is what stands before it
            request.transport.abort()
            return web.Response()
        if self.spoils:
            self.spoilt += 1
            if self.spoilt % 3 == 0:
                request.transport.abort()
            return web.Response(status=500 if self.spoilt % 3 == 1 else 200, body=body[: len(body) // 2])
        return web.Response(status=status, body=body, content_type="application/json")


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Handset]:
    handset = Handset(tmp_path)
    yield handset
    handset.signal(signal.SIGCONT)
    handset.signal(signal.SIGKILL)


@pytest.fixture
async def front(second: Handset) -> AsyncIterator[Front]:
    front = Front(second.url)
    await front.start()
    yield front
    await front.stop()


@pytest.fixture
async def stack(tmp_path: Path, second: Handset, front: Front) -> AsyncIterator[Stack]:
    address = {"MOBILE_MESSAGE_BASE_URL": f"http://127.0.0.1:{front.port}/mobile_message"}
    async with Stack(tmp_path / "stack", SETTINGS | CHAINS | address, free_ports=True) as stack:
        second.environment = stack.environment
        second.start()
        yield stack


async def send_by_own_chain(call: Api, provider: str) -> set[str]:
    """Some messages of an organisation that has a provider of its own: their texts."""
    await call.call("POST", "/api/configs/", json={"name": "sms_providers", "value": provider})
    await asyncio.sleep(1.5)  # what a config says counts within a second
    texts = {f"{provider} {number}" for number in range(_OWN_CHAIN)}
    for text in sorted(texts):
        await call.call("POST", "/api/sms/send/", json={"message": text, "recipient": _SOMEBODY})
    return texts


async def read_both(session: aiohttp.ClientSession, stack: Stack, second: Handset) -> dict[str, list[dict[str, Any]]]:
    """Provider → what its handset took, once the organisations with a chain of their own have theirs."""
    deadline = time.monotonic() + 60
    while True:
        took = {
            "mobile_message": await read_handset(session, second.url),
            "twilio": await read_handset(session, stack.url("handset")),
        }
        if sum(m["to"] == _SOMEBODY for messages in took.values() for m in messages) >= 2 * _OWN_CHAIN:
            return took
        assert time.monotonic() < deadline, "messages of an organisation's own chain are missing"
        await asyncio.sleep(0.2)


class Troubles:
    """What befalls the second handset, one after another: once so many messages are sent, and for so many seconds."""

    def __init__(self, second: Handset, front: Front) -> None:
        self.left: list[tuple[int, Callable[[], None], float]] = [
            (50, lambda: setattr(front, "spoils", True), 1.0),
            (0, lambda: setattr(front, "spoils", False), 0.5),
            (120, lambda: second.signal(signal.SIGSTOP), 4.5),
            (0, lambda: second.signal(signal.SIGCONT), 0.5),
            (0, lambda: second.signal(signal.SIGKILL), 1.5),
            (0, second.start, 0.0),
        ]
        self._until = 0.0

    async def look(self, counts: dict[str, int]) -> None:
        """Lets the next one begin when its time has come."""
        if self.left and counts.get("sent", 0) >= self.left[0][0] and time.monotonic() > self._until:
            _, begin, lasts_s = self.left.pop(0)
            begin()
            self._until = time.monotonic() + lasts_s


async def test_a_carrier_in_trouble_loses_and_doubles_nothing(stack: Stack, second: Handset, front: Front) -> None:
    issuer = Issuer(stack.home, stack.environment["CLERK_ISSUER"])
    rows = b"".join(CSV.read_bytes().splitlines(keepends=True)[:_ROWS])
    troubles, own = Troubles(second, front), {}
    async with aiohttp.ClientSession() as session:

        def api(organisation: str) -> Api:
            return Api(session, stack.url("gateway"), lambda: mint(Session("user", organisation, "admin"), issuer))

        async def others() -> None:
            for provider in ("mobile_message", "twilio"):
                own[provider] = await send_by_own_chain(api(f"org_{provider}"), provider)

        journey = run_journey(api("org_main"), rows=rows, due_in_s=5, while_sending=troubles.look, patience_s=120)
        result, _ = await asyncio.gather(journey, others())
        assert front.spoilt > 0
        assert not troubles.left, "it was over before all troubles had come: the test proves nothing"
        took = await read_both(session, stack, second)
    for provider, messages in took.items():
        assert sorted(m["text"] for m in messages if m["to"] == _SOMEBODY) == sorted(own[provider])
        assert len(messages) > 2 * _OWN_CHAIN, f"{provider} had nothing to do"
    expected = expected_messages(rows, result.refused, result.opted_out_phone)
    check_exactly_once([m for messages in took.values() for m in messages if m["to"] != _SOMEBODY], expected)
    assert result.counts == {"sent": len(expected)}
    assert await taken(stack, "org_main") == sum(measure(text).parts for text in expected.values())
