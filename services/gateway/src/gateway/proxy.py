"""Stream requests to services and their answers back, over pooled connections."""

from collections.abc import AsyncIterator, Mapping
from functools import cache
from urllib.parse import quote

import aiohttp
import structlog
from multidict import CIMultiDict
from starlette.types import Message, Receive, Scope, Send
from yarl import URL

from common import tracing
from common.context import request_id
from common.errors import BadGateway, GatewayTimeout, Invalid, TooLarge
from gateway.routes import Route

log = structlog.get_logger()

_CONNECT_S = 2.0
_MAX_CONNECTIONS = 1000  # for each service; a send that waits for its outcome uses one for up to 30 s
_BUFFERED_BYTES = 65_536

_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding"
    b" upgrade".split()
)
_NOT_FORWARDED = _HOP_BY_HOP | frozenset(
    b"host authorization cookie content-length expect forwarded x-request-id traceparent tracestate baggage"
    b" x-forwarded-for x-forwarded-host x-forwarded-path x-forwarded-proto".split()
)
_NOT_RETURNED = _HOP_BY_HOP | frozenset(b"date server x-request-id".split())
_AUTO_HEADERS = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")


class ClientDisconnected(Exception):
    """The client closed its connection before its body was complete."""


class Body:
    """The body of a request. Reading more than `max_bytes` raises TooLarge."""

    def __init__(self, scope: Scope, receive: Receive, max_bytes: int) -> None:
        headers = dict(scope["headers"])
        length = headers.get(b"content-length")
        self.length = int(length) if length is not None and length.isdigit() else None
        self.is_empty = not self.length and b"transfer-encoding" not in headers
        self.failure: Exception | None = None
        self._receive = receive
        self._max = max_bytes
        if self.length is not None and self.length > max_bytes:
            raise self._too_large()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives.

        Raises TooLarge, and ClientDisconnected when the client has closed or the server has, because the client took
        too long. The error is also stored in `failure`, because aiohttp raises another error in its place.
        """
        size, more = 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.failure = ClientDisconnected()
                raise self.failure
            chunk, more = message.get("body", b""), message.get("more_body", False)
            size += len(chunk)
            if size > self._max:
                self.failure = self._too_large()
                raise self.failure
            if chunk:
                yield chunk

    async def payload(self) -> bytes | AsyncIterator[bytes] | None:
        """Return a small body whole, a large one as a stream, and None for no body.

        A whole body needs one write, and a connection is used only when all of it has arrived.
        """
        if self.is_empty:
            return None
        if self.length is not None and self.length <= _BUFFERED_BYTES:
            return b"".join([chunk async for chunk in self.chunks()])
        return self.chunks()

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body may have {self._max:,} bytes at most.")


class Proxy:
    """Forwards requests to the services. `urls` are by service name."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = {service: url.rstrip("/") for service, url in urls.items()}
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        """Return the connection pool. It is created at the first use, when the event loop runs."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, limit_per_host=_MAX_CONNECTIONS, keepalive_timeout=30),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=_AUTO_HEADERS,
                trace_configs=tracing.client_configs(self._urls),
            )
        return self._session

    async def forward(
        self, scope: Scope, receive: Receive, send: Send, *, path: str, route: Route, token: str | None
    ) -> None:
        """Stream the request to `path` of the route's service, and its answer back.

        Raises TooLarge, BadGateway when the service cannot be reached, GatewayTimeout when it does not answer in time,
        and Invalid when the request cannot be forwarded.
        """
        body = Body(scope, receive, route.max_bytes)
        try:
            answer, first = await self._request(scope, body, path=path, route=route, token=token)
        except ClientDisconnected:
            return
        try:
            await _return(answer, first, send)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # The status has been sent already. Without the end of the body, the server closes the connection.
            log.warning("answer interrupted", upstream=route.service, error=type(error).__name__)
        finally:
            answer.release()

    async def _request(
        self, scope: Scope, body: Body, *, path: str, route: Route, token: str | None
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """Return the answer and the first chunk of its body. Until then, a failure can be answered with an error."""
        headers = _request_headers(scope, token, body.length)
        if route.public and (requested := _requested_path(scope)) != path:
            headers["X-Forwarded-Path"] = requested
        headers.update(tracing.client_headers())
        try:
            answer = await self.session().request(
                scope["method"],
                _url(self._urls[route.service], path, scope["query_string"]),
                data=await body.payload(),
                headers=headers,
                timeout=_timeout(route.timeout_s),
                allow_redirects=False,
            )
            try:
                return answer, await answer.content.readany()
            except BaseException:
                answer.close()
                raise
        except aiohttp.ConnectionTimeoutError:
            raise BadGateway from None
        except TimeoutError:
            raise GatewayTimeout from None
        except (aiohttp.InvalidURL, ValueError):
            raise Invalid(
                "The request cannot be forwarded: its path, query or a header has characters that are not allowed."
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            if body.failure is not None:
                raise body.failure from None
            log.warning("service unavailable", upstream=route.service, error=type(error).__name__)
            raise BadGateway from None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


@cache
def _timeout(pause_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=_CONNECT_S, sock_read=pause_s)


def _url(base: str, path: str, query: bytes) -> URL:
    target = base + quote(path, safe="/:@!$&'()*+,;=~-._")
    if query:
        target += "?" + quote(query, safe="%/?:@!$&'()*+,;=~-._[]")
    return URL(target, encoded=True)


def _requested_path(scope: Scope) -> str:
    """Return the path as the client wrote it: the signature of a webhook may cover it."""
    raw: bytes | None = scope.get("raw_path")
    return raw.decode("latin-1") if raw else quote(scope["path"], safe="/")


def _request_headers(scope: Scope, token: str | None, length: int | None) -> CIMultiDict[str]:
    """Return the headers that are forwarded.

    A public route has no internal token and keeps the client's `Authorization`, which some webhooks need.
    """
    named = next((value for name, value in scope["headers"] if name == b"connection"), b"")
    dropped = _NOT_FORWARDED | {part.strip().lower() for part in named.split(b",")}
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in scope["headers"]:
        if name not in dropped:
            headers.add(name.decode("latin-1"), value.decode("latin-1"))
        elif name == b"host":
            headers["X-Forwarded-Host"] = value.decode("latin-1")
        elif name == b"authorization" and token is None:
            headers["Authorization"] = value.decode("latin-1")
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if length is not None:
        headers["Content-Length"] = str(length)
    headers["X-Request-ID"] = request_id()
    headers["X-Forwarded-Proto"] = scope.get("scheme", "http")
    if scope.get("client"):
        headers["X-Forwarded-For"] = scope["client"][0]
    return headers


async def _return(answer: aiohttp.ClientResponse, chunk: bytes, send: Send) -> None:
    named = answer.headers.get("Connection", "").lower().encode().split(b",")
    dropped = _NOT_RETURNED | {part.strip() for part in named}
    headers = [(name, value) for name, value in answer.raw_headers if name.lower() not in dropped]
    start: Message = {"type": "http.response.start", "status": answer.status, "headers": headers}
    await send(start)
    while not answer.content.at_eof():
        if chunk:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        chunk = await answer.content.readany()
    await send({"type": "http.response.body", "body": chunk})
