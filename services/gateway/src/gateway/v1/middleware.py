"""Serve the clients of v1: translate their requests to today's API, and today's answers to theirs."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import format_datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.errors import BadGateway, NotFound
from common.http.errors import render
from common.http.requests import MAX_JSON_BYTES
from gateway.settings import Settings
from gateway.v1.names import PREFIX, Path, find_path, path_in_v1, path_today
from gateway.v1.translate import translate_answer, translate_error, translate_query, translate_request

_BELOW = PREFIX + "/"
SCHEMA_PATH = PREFIX + "/schema/"
_TRANSLATED_AT_ONCE_BYTES = 65_536
_MAX_ANSWER_BYTES = 16_000_000  # a page has at most 50 rows, so no answer comes near
Headers = list[tuple[bytes, bytes]]


class Gone(NotFound):
    """v1 is switched off."""

    status, default = 410, "v1 of this API is no longer available. Use the paths below /api/."


class V1Clients:
    """ASGI middleware that translates the requests below `/api/v1/`. All others pass.

    It changes the path, the query, the names of a JSON body and the answer. Token, rate limits, slots, idempotency keys
    and the limits of bodies are those of the path that answers. A path that is not in the table stays as it is, so it
    has no route and answers 404.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._headers = _deprecation_headers(settings)
        self._mode, self._sunset_at = settings.v1_clients, settings.v1_sunset_at

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_BELOW):
            await self._app(scope, receive, send)
            return
        row = find_path(scope["path"])
        is_schema = scope["path"].removesuffix("/") + "/" == SCHEMA_PATH
        answer = _Answer(send, row, self._headers, unchanged=is_schema)
        if self._is_off():
            await render(Gone())(scope, receive, answer.send)
            return
        if row is not None:
            receive = _translate_scope(scope, row, receive)
        try:
            await self._app(scope, receive, answer.send)
            if answer.is_pending():  # the service broke off, and the client has no status yet
                await render(BadGateway())(scope, receive, answer.restart().send)
        finally:
            if row is not None and "route_template" in scope:
                scope["route_template"] = PREFIX + row.v1  # log and metrics then show who still uses v1

    def _is_off(self) -> bool:
        if self._mode == "until_sunset" and self._sunset_at is not None:
            return datetime.now(UTC) >= self._sunset_at
        return self._mode == "off"


def _deprecation_headers(settings: Settings) -> Headers:
    headers = []
    if settings.v1_deprecated_at is not None:
        headers += [
            (b"deprecation", b"@%d" % settings.v1_deprecated_at.timestamp()),
            (b"link", f'<{SCHEMA_PATH}>; rel="deprecation"; type="application/json"'.encode()),
        ]
    if settings.v1_sunset_at is not None:
        headers.append((b"sunset", format_datetime(settings.v1_sunset_at.astimezone(UTC), usegmt=True).encode()))
    return headers


def _translate_scope(scope: Scope, row: Path, receive: Receive) -> Receive:
    """Give a request today's path and query, and return the `receive` that translates its JSON body."""
    scope["path"] = path_today(row, scope["path"])
    scope["query_string"] = translate_query(scope["query_string"], row, scope["method"])
    # An answer must not be compressed, because its names are replaced.
    headers: Headers = [header for header in scope["headers"] if header[0] != b"accept-encoding"]
    scope["headers"] = headers
    length = _value(headers, b"content-length")
    is_too_large = length.isdigit() and int(length) > MAX_JSON_BYTES
    if length == b"0" or is_too_large or not _is_json(headers, or_missing=True):
        return receive
    if length:  # the translated body has another length, which is not known yet
        scope["headers"] = [header for header in headers if header[0] != b"content-length"]
        scope["headers"].append((b"transfer-encoding", b"chunked"))
    return _translated(receive)


def _translated(receive: Receive) -> Receive:
    """Return a `receive` that reads the whole body when it is first needed, and returns it with today's names.

    A body over the maximum is returned as it was read, so that the proxy refuses it.
    """
    is_read = False

    async def receive_translated() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        chunks, size, more = [], 0, True
        while more and size <= MAX_JSON_BYTES:
            message = await receive()
            if message["type"] != "http.request":
                return message
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            more = message.get("more_body", False)
        is_read = True
        body = b"".join(chunks)
        if size <= _TRANSLATED_AT_ONCE_BYTES:
            body = translate_request(body)
        elif size <= MAX_JSON_BYTES:  # a body of a million quotes takes a quarter of a second
            body = await asyncio.to_thread(translate_request, body)
        return {"type": "http.request", "body": body, "more_body": more}

    return receive_translated


class _Answer:
    """An answer on its way to a client of v1. JSON is held back until it is complete, everything else passes."""

    def __init__(self, send: Send, row: Path | None, headers: Headers, *, unchanged: bool = False) -> None:
        self._send = send
        self._row = row
        self._headers = headers
        self._unchanged = unchanged
        self._start: Message | None = None
        self._chunks: list[bytes] = []
        self._size = 0

    def is_pending(self) -> bool:
        """Return whether an answer has begun that the client has nothing of yet."""
        return self._start is not None

    def restart(self) -> "_Answer":
        """Return the answer for another attempt."""
        return _Answer(self._send, self._row, self._headers)

    async def send(self, message: Message) -> None:
        """Take a message of the answer."""
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*map(_with_v1_location, message["headers"]), *self._headers]}
            if (
                not self._unchanged
                and _is_json(message["headers"])
                and not _value(message["headers"], b"content-encoding")
            ):
                self._start = message
                return
        elif self._start is not None:
            await self._collect(message, self._start)
            return
        await self._send(message)

    async def _collect(self, message: Message, start: Message) -> None:
        chunk = message.get("body", b"")
        self._size += len(chunk)
        if self._size <= _MAX_ANSWER_BYTES:
            self._chunks.append(chunk)
        if message.get("more_body", False):
            return
        if self._size > _MAX_ANSWER_BYTES:
            return  # it stays pending, and becomes an error
        body = self._translate(b"".join(self._chunks), start["status"])
        headers = [header for header in start["headers"] if header[0].lower() != b"content-length"]
        headers.append((b"content-length", b"%d" % len(body)))
        self._start = None
        await self._send({**start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    def _translate(self, body: bytes, status: int) -> bytes:
        if status >= 400:
            return translate_error(body, self._row)
        return body if self._row is None else translate_answer(body, self._row)


def _with_v1_location(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    name, value = header
    return (name, path_in_v1(value.decode("latin-1")).encode("latin-1")) if name.lower() == b"location" else header


def _value(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes:
    return next((value for given, value in headers if given.lower() == name), b"")


def _is_json(headers: Iterable[tuple[bytes, bytes]], *, or_missing: bool = False) -> bool:
    kind = _value(headers, b"content-type").partition(b";")[0].strip().lower()
    return kind == b"application/json" or (or_missing and not kind)
