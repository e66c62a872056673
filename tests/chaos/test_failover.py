"""The preferred provider fails during a group send: no message is lost or duplicated, and every chain is respected."""

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
from tests.chaos.test_kills import SETTINGS, usage
from tools.demo.journey import CSV, Api, check_exactly_once, expected_messages, read_handset, run_journey
from tools.embedded.processes import free_port, request_death_signal
from tools.embedded.supervised import REPOSITORY
from tools.embedded.supervisor import Stack
from tools.token import Issuer, Session, mint

pytestmark = pytest.mark.stack

CHAINS = {"SMS_PROVIDERS": "mobile_message,twilio", "TWILIO_CONCURRENCY": "8"}
_ROWS = 500
_OWN_CHAIN = 10  # messages of each organisation with a chain of its own
_OWN_CHAIN_PHONE = "+61453999999"  # the recipient of these messages


class Handset:
    """A second handset process. It emulates Mobile Message, while the handset of the stack emulates Twilio."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process."""
        more = {"HANDSET_PORT": str(self.port), "HANDSET_LOG": str(self.home / "second.jsonl")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tools.handset"],
            cwd=REPOSITORY,
            env={**self.environment, **more},
            preexec_fn=request_death_signal(signal.SIGKILL),  # noqa: PLW1509 (forked by the main thread)
        )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self._process is not None
        os.kill(self._process.pid, number)
        if number == signal.SIGKILL:
            self._process.wait()


class Proxy:
    """A proxy before the second handset. While `damages` is set, it damages the answers to accepted requests."""

    def __init__(self, target: str) -> None:
        self.damages = False
        self.damaged = 0
        self._target = target
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self.port = free_port()

    async def start(self) -> None:
        """Begin to serve."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._forward)
        self._session = aiohttp.ClientSession()
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        """Stop serving."""
        assert self._runner is not None
        assert self._session is not None
        await self._runner.cleanup()
        await self._session.close()

    async def _forward(self, request: web.Request) -> web.Response:
        assert self._session is not None
        assert request.transport is not None
        headers = {name: request.headers[name] for name in ("Authorization", "Idempotency-Key", "Content-Type")}
        try:
            async with self._session.post(
                self._target + request.path, data=await request.read(), headers=headers
            ) as answer:
                status, body = answer.status, await answer.read()
        except aiohttp.ClientError:  # the handset does not run, so the proxy refuses too
            request.transport.abort()
            return web.Response()
        if self.damages:
            self.damaged += 1
            if self.damaged % 3 == 0:
                request.transport.abort()
            return web.Response(status=500 if self.damaged % 3 == 1 else 200, body=body[: len(body) // 2])
        return web.Response(status=status, body=body, content_type="application/json")


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Handset]:
    """Return the second handset, which the stack starts."""
    handset = Handset(tmp_path)
    yield handset
    handset.signal(signal.SIGCONT)
    handset.signal(signal.SIGKILL)


@pytest.fixture
async def proxy(second: Handset) -> AsyncIterator[Proxy]:
    """Start the proxy of the second handset."""
    running = Proxy(second.url)
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def stack(tmp_path: Path, second: Handset, proxy: Proxy) -> AsyncIterator[Stack]:
    """Start a stack whose Mobile Message is behind the proxy."""
    address = {"MOBILE_MESSAGE_BASE_URL": f"http://127.0.0.1:{proxy.port}/mobile_message"}
    async with Stack(tmp_path / "stack", SETTINGS | CHAINS | address, free_ports=True) as running:
        second.environment = running.environment
        second.start()
        yield running


async def send_with_own_chain(call: Api, provider: str) -> set[str]:
    """Configure one provider for an organisation, send some messages, and return their texts."""
    await call.call("POST", "/api/configs/", json={"name": "sms_providers", "value": provider})
    await asyncio.sleep(1.5)  # a config takes effect within a second
    texts = {f"{provider} {number}" for number in range(_OWN_CHAIN)}
    for text in sorted(texts):
        await call.call("POST", "/api/sms/send/", json={"message": text, "recipient": _OWN_CHAIN_PHONE})
    return texts


async def read_both(session: aiohttp.ClientSession, stack: Stack, second: Handset) -> dict[str, list[dict[str, Any]]]:
    """Return provider → the messages on its handset, once those of the organisations with own chains have arrived."""
    deadline = time.monotonic() + 60
    while True:
        received = {
            "mobile_message": await read_handset(session, second.url),
            "twilio": await read_handset(session, stack.url("handset")),
        }
        if sum(m["to"] == _OWN_CHAIN_PHONE for messages in received.values() for m in messages) >= 2 * _OWN_CHAIN:
            return received
        assert time.monotonic() < deadline, "messages of an organisation with its own chain are missing"
        await asyncio.sleep(0.2)


class Faults:
    """Faults of the second handset, one after another: after how many sent messages, what, for how many seconds."""

    def __init__(self, second: Handset, proxy: Proxy) -> None:
        self.left: list[tuple[int, Callable[[], None], float]] = [
            (50, lambda: setattr(proxy, "damages", True), 1.0),
            (0, lambda: setattr(proxy, "damages", False), 0.5),
            (120, lambda: second.signal(signal.SIGSTOP), 4.5),
            (0, lambda: second.signal(signal.SIGCONT), 0.5),
            (0, lambda: second.signal(signal.SIGKILL), 1.5),
            (0, second.start, 0.0),
        ]
        self._until = 0.0

    async def inject(self, counts: dict[str, int]) -> None:
        """Begin the next fault when enough messages are sent and the last fault is over."""
        if self.left and counts.get("sent", 0) >= self.left[0][0] and time.monotonic() > self._until:
            _, begin, duration_s = self.left.pop(0)
            begin()
            self._until = time.monotonic() + duration_s


async def test_failing_provider_loses_and_duplicates_no_message(stack: Stack, second: Handset, proxy: Proxy) -> None:
    issuer = Issuer(stack.home, stack.environment["CLERK_ISSUER"])
    rows = b"".join(CSV.read_bytes().splitlines(keepends=True)[:_ROWS])
    faults, own = Faults(second, proxy), {}
    async with aiohttp.ClientSession() as session:

        def api(organisation: str) -> Api:
            return Api(session, stack.url("gateway"), lambda: mint(Session("user", organisation, "admin"), issuer))

        async def others() -> None:
            for provider in ("mobile_message", "twilio"):
                own[provider] = await send_with_own_chain(api(f"org_{provider}"), provider)

        journey = run_journey(api("org_main"), rows=rows, due_in_s=5, while_sending=faults.inject, timeout_s=120)
        result, _ = await asyncio.gather(journey, others())
        assert proxy.damaged > 0
        assert not faults.left, "the send ended before all faults had begun, so the test proves nothing"
        received = await read_both(session, stack, second)
    for provider, messages in received.items():
        assert sorted(m["text"] for m in messages if m["to"] == _OWN_CHAIN_PHONE) == sorted(own[provider])
        assert len(messages) > 2 * _OWN_CHAIN, f"{provider} sent no message of the group"
    expected = expected_messages(rows, result.refused, result.opted_out_phone)
    check_exactly_once([m for messages in received.values() for m in messages if m["to"] != _OWN_CHAIN_PHONE], expected)
    assert result.counts == {"sent": len(expected)}
    assert await usage(stack, "org_main") == sum(measure(text).parts for text in expected.values())
