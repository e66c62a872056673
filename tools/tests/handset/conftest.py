"""Fixtures with the handset as a separate process on a free port."""

import base64
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest

from tools.embedded.processes import free_port

REPOSITORY = Path(__file__).parents[3]
FIRST_SETTINGS = {"latency_ms": 0, "concurrency": 0, "receipts": "off"}


class RunningHandset:
    """A handset process, its log and its address."""

    def __init__(self, log: Path, **environment: str) -> None:
        self.log = log
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = environment

    def start(self) -> Self:
        """Start the process and wait until it is ready."""
        variables = {"HANDSET_PORT": str(self.port), "HANDSET_LOG": str(self.log), **self._environment}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tools.handset"],
            cwd=REPOSITORY,
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith("handset ready")
        return self

    def end(self, number: signal.Signals) -> None:
        """End the process with a signal."""
        self._process.send_signal(number)
        self._process.communicate(timeout=10)


@pytest.fixture
def start_handset(tmp_path: Path) -> Iterator[Callable[..., RunningHandset]]:
    """`start_handset(NAME="value")` starts a handset with these environment variables."""
    with contextlib.ExitStack() as stack:

        def start(**environment: str) -> RunningHandset:
            handset = RunningHandset(tmp_path / "handset.log", **environment).start()
            stack.callback(handset.end, signal.SIGTERM)
            return handset

        yield start


@pytest.fixture(scope="package")
def shared_handset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHandset]:
    """Start a handset for all tests of the package."""
    handset = RunningHandset(tmp_path_factory.mktemp("handset") / "handset.log").start()
    yield handset
    handset.end(signal.SIGTERM)


@pytest.fixture
async def handset(shared_handset: RunningHandset, session: aiohttp.ClientSession) -> RunningHandset:
    """Return the shared handset with its first settings and without messages."""
    url = shared_handset.url
    async with session.patch(f"{url}/api/settings/", json=FIRST_SETTINGS) as changed:
        assert changed.status == 200
    async with session.delete(f"{url}/api/messages/") as deleted:
        assert deleted.status == 204
    return shared_handset


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open an HTTP session with credentials."""
    async with aiohttp.ClientSession(headers={"Authorization": credentials("user", "secret")}) as opened:
        yield opened


Answer = tuple[int, dict[str, str], bytes]
Send = Callable[..., Awaitable[Answer]]


@pytest.fixture
def send(handset: RunningHandset, session: aiohttp.ClientSession) -> Send:
    """`await send(*numbers, key="", text="Hello")` sends one request to Mobile Message. Returns the answer."""

    async def post(*numbers: str, key: str = "", text: str = "Hello", timeout: float = 10, **fields: Any) -> Answer:
        body = {"messages": [message(number, text) for number in numbers], **fields}
        headers = {"Idempotency-Key": key} if key else {}
        limit = aiohttp.ClientTimeout(total=timeout)
        async with session.post(f"{handset.url}/v1/messages", json=body, headers=headers, timeout=limit) as response:
            return response.status, dict(response.headers), await response.read()

    return post


def credentials(username: str, password: str) -> str:
    """Return the value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def message(number: str, text: str = "Hello") -> dict[str, str]:
    """Return a message as Mobile Message's API expects it."""
    return {"to": number, "message": text, "sender": "61491570110", "custom_ref": f"ref-{number}"}
