"""Load over HTTP/1.1 at little cost: requests are bytes, and only the status of an answer is read.

aiohttp's client costs 200 µs a request, which is a large part of what a request costs the system.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

_ANSWER_S = 120
BROKEN = 0
"""The status of a request whose connection ended before the answer."""


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Address":
        """Return the address in a URL."""
        parts = urlsplit(url)
        return cls(str(parts.hostname), int(parts.port or 80))

    def render(self, method: str, path: str, headers: Mapping[str, str], body: Any = None) -> bytes:
        """Return a request as bytes. A body is sent as JSON."""
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        return "\r\n".join([*lines, "", ""]).encode() + content


@dataclass
class Load:
    """The measured results of a series of requests."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)

    @property
    def successes(self) -> int:
        """The number of requests whose status was 2xx."""
        return sum(count for status, count in self.statuses.items() if status // 100 == 2)

    @property
    def per_second(self) -> float:
        """Successful requests per second."""
        return self.successes / self.seconds if self.seconds else 0.0

    @property
    def failures(self) -> str:
        """A remark on answers that were not 2xx, or an empty text."""
        others = {status: count for status, count in sorted(self.statuses.items()) if status // 100 != 2}
        return f"NOT ALL SUCCESSFUL: {others}" if others else ""

    def quantile_ms(self, share: float) -> float:
        """Return a quantile of the latencies in milliseconds."""
        return quantile(self.latencies_s, share) * 1000


def quantile(values: list[float], share: float) -> float:
    """Return the value below which this share of the values is. Without values it is 0."""
    ordered = sorted(values) or [0.0]
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Connection(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self) -> None:
        self.is_open = True
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None
        self._parser = httptools.HttpResponseParser(self)

    async def send(self, request: bytes) -> int:
        """Send a request and return the status of its answer, or BROKEN when the connection ends before it."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        async with asyncio.timeout(_ANSWER_S):
            return await self._answer

    def close(self) -> None:
        """Close the connection."""
        self.is_open = False
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to use the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has no common class with asyncio's

    def connection_lost(self, _error: Exception | None) -> None:
        """End a request that waits for its answer."""
        self.is_open = False
        self._resolve(BROKEN)

    def data_received(self, data: bytes) -> None:
        """Parse a part of an answer."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """End the request with its status. httptools calls this."""
        if not self._parser.should_keep_alive():
            self.close()
        self._resolve(self._parser.get_status_code())

    def _resolve(self, status: int) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)


class Client:
    """Sends one request at a time to an address. It connects again when the server has closed the connection."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connection: Connection | None = None

    async def send(self, request: bytes) -> int:
        """Send a request and return the status of its answer, or BROKEN."""
        if self._connection is None or not self._connection.is_open:
            loop = asyncio.get_running_loop()
            try:
                _, self._connection = await loop.create_connection(Connection, self._address.host, self._address.port)
            except OSError:
                return BROKEN
        return await self._connection.send(request)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()


async def run_load(
    address: Address,
    connections: int,
    request: Callable[[int], bytes],
    *,
    seconds: float | None = None,
    count: int | None = None,
) -> Load:
    """Keep `connections` requests in flight for `seconds`, or until `count` are done.

    `request(n)` returns the n-th request, counted from 0.
    """
    load = Load()
    numbers = iter(range(count if count is not None else 100_000_000))
    started = time.perf_counter()

    async def work(client: Client) -> None:
        for number in numbers:
            sent_at = time.perf_counter()
            if seconds is not None and sent_at - started > seconds:
                break
            status = await client.send(request(number))
            load.latencies_s.append(time.perf_counter() - sent_at)
            load.statuses[status] += 1
        client.close()

    await asyncio.gather(*(work(Client(address)) for _ in range(connections)))
    load.seconds = time.perf_counter() - started
    return load
