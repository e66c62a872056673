"""Attacks on every kind of server: each is refused, ends, costs no memory, and delays no other client."""

import asyncio
import json
import resource
import select
import socket
import threading
from contextlib import ExitStack

import pytest
from starlette.types import Receive, Scope, Send

from common.http.server_limits import MAX_PIPELINED, HttpLimits

from .conftest import Serve, Server, read_to_end, serve_app

GET = b"GET /health/live HTTP/1.1\r\nHost: a.test\r\n"
CLOSE = b"Connection: close\r\n\r\n"
MEGABYTES_16 = 16 * 1024  # ru_maxrss is in KiB


def body_of(answer: bytes) -> dict[str, str]:
    """Return the JSON of an error that the server itself wrote, after a check of its headers."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert b"content-type: application/json" in head
    shown: dict[str, str] = json.loads(body)
    assert f"x-request-id: {shown['request_id']}".encode() in head
    assert shown["request_id"]
    assert shown["detail"]
    return shown


HEADS: list[tuple[str, bytes, int, str]] = [
    ("long line", b"GET /" + b"a" * 8200 + b" HTTP/1.1\r\nHost: a.test\r\n\r\n", 431, "headers_too_large"),
    ("endless line", b"GET /" + b"a" * 100_000, 431, "headers_too_large"),
    ("long query", b"GET /?" + b"a" * 8200 + b" HTTP/1.1\r\nHost: a.test\r\n\r\n", 431, "headers_too_large"),
    ("endless method", b"A" * 100_000, 400, "invalid"),
    ("large header", GET + b"X-A: " + b"a" * 16_384 + b"\r\n\r\n", 431, "headers_too_large"),
    ("endless name", GET + b"a" * 100_000, 431, "headers_too_large"),
    ("large headers", GET + (b"X-A: " + b"a" * 1000 + b"\r\n") * 17 + b"\r\n", 431, "headers_too_large"),
    ("many headers", GET + b"a:\r\n" * 50 + b"\r\n", 431, "headers_too_large"),
    ("no HTTP", b"\x16\x03\x01\x00\xf4\x01\x00\x00", 400, "invalid"),
    ("two lengths", GET + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "invalid"),
    ("length and chunks", GET + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "invalid"),
]


@pytest.mark.parametrize(("head", "status", "code"), [case[1:] for case in HEADS], ids=[case[0] for case in HEADS])
def test_head_over_a_limit_is_refused(server: Server, head: bytes, status: int, code: str) -> None:
    answer = server.exchange(head)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert body_of(answer)["code"] == code
    assert server.is_answering()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health/live?" + b"a" * 8100 + b" HTTP/1.1\r\nHost: a.test\r\n",
        GET + b"X-A: " + b"a" * 15_900 + b"\r\n",
        GET + b"a:\r\n" * 48,
    ],
)
def test_head_within_the_limits_is_answered(server: Server, head: bytes) -> None:
    assert server.exchange(head + CLOSE).startswith(b"HTTP/1.1 200 ")


def test_refusal_has_the_request_id_of_the_request(server: Server) -> None:
    answer = server.exchange(GET + b"X-Request-ID: abc-1\r\nX-A: " + b"a" * 16_384 + b"\r\n\r\n")
    assert body_of(answer)["request_id"] == "abc-1"


def send_until_answered(connection: socket.socket, piece: bytes, pieces: int, *, pause_s: float = 0.0) -> int:
    """Send a piece again and again until the server answers or closes. Return the number of pieces that were sent."""
    for sent in range(pieces):
        if select.select([connection], [], [], pause_s)[0]:
            return sent
        try:
            connection.sendall(piece)
        except ConnectionError:
            return sent
    return pieces


def test_endless_headers_are_refused_without_memory(server: Server) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with server.connect() as connection:
        connection.sendall(GET)
        sent = send_until_answered(connection, b"X-Filler: " + b"a" * 65_000 + b"\r\n", 2000)
        assert server.is_answering()
        answer = read_to_end(connection)
    assert sent < 2000
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES_16


@pytest.mark.parametrize(
    ("beginning", "status"),
    [(b"", b""), (b"\r\n", b"408"), (b"GET", b"408"), (GET, b"408"), (GET + b"X-A: ", b"408")],
    ids=["nothing", "line break", "method", "line", "header"],
)
def test_unfinished_head_times_out(server: Server, beginning: bytes, status: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(beginning)
        assert server.is_answering()
        answer = read_to_end(connection)
    assert answer[9:12] == status
    assert not status or body_of(answer)["code"] == "request_timeout"


def test_head_that_arrives_byte_by_byte_times_out(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(GET + b"X-A: ")
        sent = send_until_answered(connection, b"a", 10_000, pause_s=0.01)
        answer = read_to_end(connection)
    assert sent < 10_000
    assert answer[9:12] == b"408"
    assert server.is_answering()


def test_second_head_of_a_connection_times_out(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(GET + b"\r\n" + GET)
        answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 408 ") == 1


@pytest.mark.parametrize("framing", [b"Content-Length: 900000\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"])
@pytest.mark.parametrize("manner", ["pause", "byte by byte", "pause after much"])
def test_slow_body_times_out(server: Server, framing: bytes, manner: str) -> None:
    chunked = framing.startswith(b"T")
    with server.connect() as connection:
        connection.sendall(b"POST " + server.body_path.encode() + b" HTTP/1.1\r\n" + server.headers + framing)
        assert server.is_answering()
        if manner != "pause":
            connection.sendall(b"1234\r\n" if chunked else b"1")
        if manner == "pause after much":  # a fast beginning allows no longer pause
            connection.sendall(b"186a0\r\n" + b"1" * 100_000)
        elif manner == "byte by byte":
            sent = send_until_answered(connection, b"1\r\na\r\n" if chunked else b"a", 10_000, pause_s=0.01)
            assert sent < 10_000
        answer = read_to_end(connection)
    if answer.startswith(b"HTTP/1.1 405 "):
        return  # the worker answers without the body, and closes when the rest does not come
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert body_of(answer)["code"] == "request_timeout"


@pytest.mark.parametrize(
    "rest",
    [
        (b"1;" + b"e" * 60_000 + b"\r\n{\r\n"),
        (b"1\r\n{\r\n0\r\n" + (b"X-A: " + b"a" * 1000 + b"\r\n") * 60),
        (b"1\r\n{\r\n0\r\nX-A: " + b"a" * 60_000),
    ],
    ids=["extension", "trailers", "trailer"],
)
def test_giant_extensions_and_trailers_of_chunks_are_refused(server: Server, rest: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with server.connect() as connection:
        connection.sendall(b"POST " + server.body_path.encode() + b" HTTP/1.1\r\n" + server.headers)
        connection.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
        sent = send_until_answered(connection, rest, 2000) if rest.startswith(b"1;") else 0
        if not sent:
            connection.sendall(rest)
            send_until_answered(connection, b"a" * 65_000, 2000)
        assert server.is_answering()
        answer = read_to_end(connection)
    assert answer[9:12] in (b"431", b"405")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES_16


def test_pipelined_requests_are_bounded(server: Server) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with server.connect() as connection:
        send_until_answered(connection, (GET + b"\r\n") * 5000, 200)
        assert server.is_answering()
        answer = read_to_end(connection)
    assert 1 <= answer.count(b"HTTP/1.1 200 ") <= MAX_PIPELINED + 1
    assert answer.count(b"HTTP/1.1 ") == answer.count(b"HTTP/1.1 200 ")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES_16


def test_a_few_pipelined_requests_are_all_answered(server: Server) -> None:
    answer = server.exchange((GET + b"\r\n") * 19 + GET + CLOSE)
    assert answer.count(b"HTTP/1.1 200 ") == 20


def test_bad_request_behind_a_good_one_does_not_disturb_its_answer(server: Server) -> None:
    answer = server.exchange(GET + b"\r\nNOT HTTP\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_request_that_expects_a_100_closes_its_connection(server: Server) -> None:
    head = b"POST /health/live HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 40\r\n\r\n"
    answer = server.exchange(head)
    assert b"connection: close" in answer
    assert b"100 Continue" not in answer


@pytest.mark.parametrize(
    ("changes", "admitted"),
    [
        ({"http_max_connections": 3}, 3),
        ({"http_max_connections_per_address": 3}, 3),
        ({"http_max_connections_per_address": 0}, 6),
        ({"http_max_connections_per_address": 3, "forwarded_allow_ips": "10.0.0.1, 127.0.0.0/8"}, 6),
        ({"http_max_connections_per_address": 3, "forwarded_allow_ips": "10.0.0.1,::1"}, 3),
        ({"http_max_connections_per_address": 3, "forwarded_allow_ips": "*"}, 6),
    ],
    ids=["all", "by address", "no limit", "proxy", "other proxy", "any proxy"],
)
def test_connections_over_a_limit_are_refused_at_once(start: Serve, changes: dict[str, object], admitted: int) -> None:
    with start(**{**changes, "http_header_timeout_s": 60}) as server, ExitStack() as stack:
        waiting = [stack.enter_context(server.connect()) for _ in range(6)]
        for connection in waiting[admitted:]:
            answer = read_to_end(connection)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: " in answer
            assert body_of(answer)["code"] == "unavailable"
        for connection in waiting[:admitted]:  # those that were admitted are served
            connection.sendall(GET + CLOSE)
            assert read_to_end(connection).startswith(b"HTTP/1.1 200 ")
        assert server.is_answering()  # and their places are free again


def test_client_that_floods_and_reads_nothing_is_disconnected(server: Server) -> None:
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(90)  # if both sides are blocked, the server waits for 30 s before it disconnects
        with pytest.raises(ConnectionError):
            while True:
                connection.sendall((GET + b"\r\n") * 16)
    assert server.is_answering()


class EndlessApp:
    """An application whose answer has no end. `disconnected` is set when it learns that the client is gone."""

    def __init__(self) -> None:
        self.disconnected = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        assert (await receive())["type"] == "http.request"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        answer = asyncio.create_task(self._write(send))
        assert (await receive())["type"] == "http.disconnect"
        answer.cancel()
        self.disconnected.set()

    async def _write(self, send: Send) -> None:
        while True:
            await send({"type": "http.response.body", "body": b"a" * 65_536, "more_body": True})


def test_client_that_does_not_read_its_answer_is_disconnected() -> None:
    app = EndlessApp()
    with serve_app(app, HttpLimits(body_timeout_s=0.2), None) as port, Server(port, "/", b"").connect() as connection:
        connection.sendall(GET + b"\r\n")
        assert app.disconnected.wait(30)


class GatedApp:
    """An application that reads no body before a request for `/open`. It answers with the size of the body."""

    def __init__(self) -> None:
        self._gate = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        if scope["path"] == "/open":
            self._gate.set()
        await self._gate.wait()
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"size", b"%d" % size)]})
        await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("expects", [False, True], ids=["paused", "expects 100"])
def test_time_in_which_the_application_reads_nothing_is_not_the_clients(expects: bool) -> None:
    size = 400_000
    with serve_app(GatedApp(), HttpLimits(header_timeout_s=0.4, body_timeout_s=0.1), None) as port:
        server = Server(port, "/", b"Host: a.test\r\nConnection: close\r\n")
        head = b"POST / HTTP/1.1\r\n" + server.headers + b"Content-Length: %d\r\n" % size
        with server.connect() as connection:
            connection.sendall(head + (b"Expect: 100-continue\r\n\r\n" if expects else b"\r\n" + b"a" * (size - 1)))
            assert server.exchange(b"GET").startswith(b"HTTP/1.1 408 ")  # so more time has passed than a body has
            assert server.exchange(b"GET /open HTTP/1.1\r\n" + server.headers + b"\r\n").startswith(b"HTTP/1.1 200 ")
            if expects:
                assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
            connection.sendall(b"a" * (size if expects else 1))
            answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"size: %d" % size in answer
