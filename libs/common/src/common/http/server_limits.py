"""Bound what one client can make a server read, store or wait for, before the application sees a request.

uvicorn limits neither the size of a request's headers nor the time in which headers and bodies arrive. `BoundedHttp` is
its protocol class with these limits. It counts bytes before the parser reads them. Time-outs cost a request nothing,
because one timer of the process looks at all connections, at most once a second.
"""

import asyncio
import ipaddress
import resource
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import httptools
import orjson
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from common.context import accept_request_id
from common.errors import AppError, HeadersTooLarge, Invalid, RequestTimeout, Unavailable
from common.settings import CommonSettings

log = structlog.get_logger("http")

MIN_BODY_BYTES_PER_S = 1000
MAX_PIPELINED = 32
_LINGER_S = 2.0  # time in which a refused client can stop sending and read the answer
_SWEEP_S = 1.0
_MAX_FILES = 65_536
_FRAMING_PER_BODY_BYTE = 8  # a chunk of one byte needs five bytes around it

# What the server waits for on a connection.
_IDLE, _HEAD, _BODY = range(3)


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The limits of a server. For connections, 0 means that there is no limit by address.

    `header_bytes` limits the request line and the headers together, and a half of it the request line.
    `uncounted` lists addresses and networks, such as those of a reverse proxy, that have no limit by address.
    """

    header_bytes: int = 32_768
    headers: int = 100
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    connections: int = 10_000
    connections_per_address: int = 0
    uncounted: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: CommonSettings) -> Self:
        """Return the limits that the settings ask for."""
        proxies = settings.forwarded_allow_ips or ""
        return cls(
            header_bytes=settings.http_max_header_bytes,
            headers=settings.http_max_headers,
            header_timeout_s=settings.http_header_timeout_s,
            body_timeout_s=settings.http_body_timeout_s,
            connections=min(settings.http_max_connections, _raise_file_limit() // 2),
            connections_per_address=settings.http_max_connections_per_address,
            uncounted=tuple(part.strip() for part in proxies.split(",") if part.strip()),
        )


def server_options(limits: HttpLimits) -> dict[str, Any]:
    """Return the options with which uvicorn serves within the limits. They can be given to several processes."""
    return {"http": partial(BoundedHttp, connections=Connections(limits)), "ws": "none", "server_header": False}


def _raise_file_limit() -> int:
    """Let this process open as many files as its system allows, up to `_MAX_FILES`. Return their number.

    Many systems start a process with 1024. It could not accept connections for some time when they are used up.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MAX_FILES
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


class Connections:
    """The open connections of one process. Refuses those over a limit, and closes those that take too long."""

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self._open: dict[BoundedHttp, str] = {}
        self._by_address: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._interval_s = min(_SWEEP_S, limits.header_timeout_s / 4, limits.body_timeout_s / 4)
        self._swept_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def admit(self, connection: "BoundedHttp") -> bool:
        """Count a new connection. Return False when it is over a limit."""
        address = _address_of(connection.client)
        most = self.limits.connections_per_address
        if len(self._open) >= self.limits.connections:
            return False
        if most and self._by_address[address] >= most and not self._is_uncounted(address):
            return False
        self._open[connection] = address
        self._by_address[address] += 1
        self._watch(connection.loop)
        return True

    def remove(self, connection: "BoundedHttp") -> None:
        """Forget a closed connection."""
        address = self._open.pop(connection, None)
        if address is None:
            return
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def count_refusal(self, code: str, loop: asyncio.AbstractEventLoop) -> None:
        """Count a refusal. The refusals of an interval are logged as one line, so that they cannot flood the log."""
        self._refused[code] += 1
        self._watch(loop)

    def close_all(self) -> None:
        """Close every connection at once."""
        for connection in list(self._open):
            connection.transport.abort()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is None:
            self._swept_at = loop.time()
            self._timer = loop.call_later(self._interval_s, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        elapsed_s, self._swept_at = now - self._swept_at, now
        for connection in list(self._open):
            connection.check_time(elapsed_s)
        for code, count in self._refused.items():
            log.warning("connections refused", code=code, count=count)
        self._refused.clear()
        self._timer = loop.call_later(self._interval_s, self._sweep, loop) if self._open else None

    def _is_uncounted(self, address: str) -> bool:
        """Say whether the settings exempt an address. This is only asked when the address has reached its limit."""
        return any(entry == "*" or _is_in(address, entry) for entry in self.limits.uncounted)


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's HTTP protocol with limits on headers, time, pipelined requests and connections.

    A refused request is answered with an error as JSON, and its connection is closed. The parser's callbacks name the
    base class instead of calling `super()`, because they are called for each request and this is faster.
    """

    def __init__(self, *args: Any, connections: Connections, **named: Any) -> None:
        super().__init__(*args, **named)
        self._connections = connections
        self._limits = connections.limits
        self._max_bytes = connections.limits.header_bytes
        self._max_headers = connections.limits.headers
        self._awaited = _HEAD
        self._heads = 0  # complete heads of this connection
        self._chunk = 0  # bytes of the chunk that is being parsed
        self._received = 0  # bytes since the head or the body began
        self._body = 0
        self._refused = self._hung_up = False
        # These are only used by the sweep.
        self._waited_s = self._paused_s = self._blocked_s = self._closing_s = 0.0
        self._seen = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        if not self._connections.admit(self):
            self._refused = True
            error = Unavailable("Too many connections are open. Try again later.", headers={"Retry-After": "5"})
            self._connections.count_refusal("connections", self.loop)
            self._write_error(error)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.remove(self)
        self._stop_abandoned()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self.pipeline.clear()

    def _stop_abandoned(self) -> None:
        """Cancel the reading request whose client has gone, so that nothing more is done for it.

        A request that writes goes on to its end, because its client may have closed on purpose.
        """
        if self.cycle is None or self.cycle.response_complete:
            return
        scope: Any = self.cycle.scope
        if scope["method"] in ("GET", "HEAD") and "task" in scope:  # set by the request log
            scope["abandoned"] = True
            scope["task"].cancel()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return  # the client still sends: the bytes are dropped until it has read the answer
        self._unset_keepalive_if_required()
        if self._awaited == _IDLE:
            self._begin_head()
        self._chunk = len(data)
        self._received += self._chunk
        try:
            self._feed(data)
        except httptools.HttpParserUpgrade:
            pass  # the request is answered as if it had asked for no other protocol
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, AppError) else Invalid("This is not a valid HTTP request."))
        except HeadersTooLarge as error:
            self._refuse(error)

    def _feed(self, data: bytes) -> None:
        """Give bytes to the parser, but never more of an unfinished head than its limit."""
        limit = self._max_bytes
        excess = self._received - limit
        if self._awaited == _HEAD and excess > 0:
            heads, allowed = self._heads, max(0, len(data) - excess)
            if allowed:
                self.parser.feed_data(data[:allowed])
            if self._heads == heads:
                raise HeadersTooLarge(f"The request line and the headers may have {limit:,} bytes at most.")
            data = data[allowed:]
        self.parser.feed_data(data)
        # The parser keeps trailers, and neither it nor the application counts what is around the chunks of a body.
        if self._awaited == _BODY and self._received - self._body > limit + _FRAMING_PER_BODY_BYTE * self._body:
            raise HeadersTooLarge("The chunk extensions or trailers of the body are too large.")

    def _begin_head(self) -> None:
        self._awaited = _HEAD
        self._received = 0
        self._waited_s = 0.0

    def on_message_begin(self) -> None:
        if self._awaited == _IDLE:  # a pipelined request, which begins inside the chunk
            self._begin_head()
        HttpToolsProtocol.on_message_begin(self)

    def on_headers_complete(self) -> None:
        limit = self._max_bytes
        if len(self.headers) > self._max_headers:
            raise HeadersTooLarge(f"A request may have {self._max_headers} headers at most.")
        if self._received + self._chunk > limit // 2:  # an upper bound, so that a small request is not counted
            if len(self.url) > limit // 2:
                raise HeadersTooLarge(f"The address may have {limit // 2:,} bytes at most.")
            if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > limit:
                raise HeadersTooLarge(f"The request line and the headers may have {limit:,} bytes at most.")
        if len(self.pipeline) >= MAX_PIPELINED:
            raise Invalid("Too many requests wait on this connection.")
        self._heads += 1
        self._awaited = _BODY
        self._received = self._body = 0
        self._waited_s = 0.0
        HttpToolsProtocol.on_headers_complete(self)
        if self.expect_100_continue:
            # A client that gets an answer instead of the 100 may send its next request or the body. Which of the two
            # cannot be known, so the connection is closed after the answer.
            self.cycle.keep_alive = False
        self.headers = []  # uvicorn would add the trailers of a body to the headers that the application sees

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        HttpToolsProtocol.on_body(self, body)

    def on_message_complete(self) -> None:
        self._awaited = _IDLE
        HttpToolsProtocol.on_message_complete(self)

    def on_response_complete(self) -> None:
        self._waited_s = 0.0  # the client gets time to send the rest of a body that nobody reads
        HttpToolsProtocol.on_response_complete(self)
        if self.pipeline and not self._refused:
            self.flow.pause_reading()  # the requests that wait are answered before more are read

    def pause_writing(self) -> None:
        self._blocked_s = 0.0
        super().pause_writing()

    def check_time(self, elapsed_s: float) -> None:
        """Close the connection when the client takes too long. `elapsed_s` is the time since the last check."""
        if self.transport.is_closing() or self._hung_up:
            self._closing_s += elapsed_s
            if self._closing_s > (_LINGER_S if self._hung_up else self._limits.body_timeout_s):
                self.transport.abort()
            return
        if self.flow.write_paused:
            self._blocked_s += elapsed_s
            if self._blocked_s > self._limits.body_timeout_s:  # the client does not read its answer
                self.transport.abort()
                return
        if self._awaited != _IDLE and not self._refused and not self._is_client_waiting():
            self._check_arrival(elapsed_s)

    def _is_client_waiting(self) -> bool:
        """Say whether the client cannot send: the application has not read what came, or asked for no body yet."""
        return self.flow.read_paused or (self._awaited == _BODY and self.cycle.waiting_for_100_continue)

    def _check_arrival(self, elapsed_s: float) -> None:
        paused = self._waited_s > 0 and self._received == self._seen
        self._paused_s = self._paused_s + elapsed_s if paused else 0.0
        self._seen = self._received
        self._waited_s += elapsed_s
        if self._awaited == _HEAD:
            if self._waited_s <= self._limits.header_timeout_s:
                return
            if not self._received and not self._heads:  # the client has sent nothing at all
                self.transport.close()
            else:
                self._refuse(RequestTimeout("The headers of the request did not arrive in time."))
            return
        allowed_s = self._limits.body_timeout_s
        if not self.cycle.response_complete:
            allowed_s += self._received / MIN_BODY_BYTES_PER_S
        if self._waited_s > allowed_s or self._paused_s > self._limits.body_timeout_s:
            self._refuse(RequestTimeout("The body of the request did not arrive in time. Send the request again."))

    def _refuse(self, error: AppError) -> None:
        """Read no further request, and close the connection when the requests before this one are answered."""
        self._refused = True
        self._connections.count_refusal(error.code, self.loop)
        cycle = self.cycle
        is_open = cycle is not None and not cycle.response_complete
        if is_open and self._awaited != _BODY:
            cycle.keep_alive = False  # this is the last of the requests that are not answered yet
            self.flow.resume_reading()
            return
        is_current = self._awaited != _BODY or (is_open and not self.pipeline and not cycle.response_started)
        if is_current:
            self._write_error(error)
        if is_open:
            cycle.disconnected = True
            cycle.message_event.set()
        self._hang_up()

    def _hang_up(self) -> None:
        """End the answers, and close when the client has closed or `_LINGER_S` has passed.

        A connection that is closed with unread bytes is reset, and a client may then lose the answer.
        """
        self._hung_up = True
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def _write_error(self, error: AppError) -> None:
        given = next((value.decode("latin-1") for name, value in self.headers or () if name == b"x-request-id"), None)
        request_id = accept_request_id(given)
        body = orjson.dumps(error.body(request_id))
        headers: Sequence[tuple[bytes, bytes]] = (
            *self.server_state.default_headers,
            *((name.lower().encode(), value.encode()) for name, value in error.headers.items()),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        )
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[error.status] + lines + b"\r\n" + body)


def _address_of(client: tuple[str, int] | None) -> str:
    """Return the address by which a connection is counted: of IPv6 the /64, which belongs to one subscriber."""
    host = client[0].partition("%")[0] if client else ""
    if ":" not in host:
        return host
    return str(ipaddress.ip_network((host, 64), strict=False).network_address)


def _is_in(address: str, entry: str) -> bool:
    try:
        network = ipaddress.ip_network(entry, strict=False)
        prefix = ipaddress.ip_network((address, 64 if ":" in address else 32))
        if network.version != prefix.version:  # the stubs do not know that both are then of one class
            return False
        return network.supernet_of(prefix) or prefix.supernet_of(network)  # type: ignore[arg-type]
    except ValueError:
        return False
