"""The load generator against small servers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tools.bench.load import BROKEN, Address, Load, quantile, run_load

Answer = Callable[[int], bytes | None]
Serve = Callable[[Answer], Awaitable[Address]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """`await serve(answer)` starts a server whose n-th answer is `answer(n)`; None closes the connection."""
    servers: list[asyncio.Server] = []
    counted = iter(range(1000))

    async def start(answer: Answer) -> Address:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while await reader.readuntil(b"\r\n\r\n"):
                    content = answer(next(counted))
                    if content is None:
                        break
                    writer.write(content)
            except asyncio.IncompleteReadError:
                pass
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        servers.append(server)
        return Address(*server.sockets[0].getsockname())

    yield start
    for server in servers:
        server.close()


def test_request_with_a_body_is_rendered_with_its_length() -> None:
    request = Address("127.0.0.1", 80).render("POST", "/a/?b=c", {"Authorization": "Bearer t"}, {"name": "é"})
    assert request == (
        b"POST /a/?b=c HTTP/1.1\r\nHost: 127.0.0.1:80\r\nAuthorization: Bearer t\r\n"
        b'Content-Type: application/json\r\nContent-Length: 18\r\n\r\n{"name": "\\u00e9"}'
    )


def test_address_is_read_from_a_url() -> None:
    assert Address.of("http://127.0.0.1:8080/api/") == Address("127.0.0.1", 8080)


def test_quantile_of_no_values_is_zero() -> None:
    assert quantile([], 0.99) == 0.0
    assert quantile([3.0, 1.0, 2.0, 4.0], 0.5) == 3.0


def test_rate_counts_successes_only_and_names_the_others() -> None:
    load = Load(seconds=2.0)
    load.statuses.update({200: 6, 201: 2, 503: 1})
    assert load.per_second == 4.0
    assert load.failures == "NOT ALL SUCCESSFUL: {503: 1}"


async def test_all_requests_of_a_count_are_answered_over_few_connections(serve: Serve) -> None:
    answers = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    )
    address = await serve(lambda number: answers[number % 3])
    load = await run_load(address, 4, lambda _: address.render("GET", "/", {}), count=30)
    assert load.statuses == {200: 20, 204: 10}
    assert len(load.latencies_s) == 30
    assert load.failures == ""


async def test_connection_that_the_server_closes_after_an_answer_is_opened_again(serve: Serve) -> None:
    address = await serve(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    load = await run_load(address, 1, lambda _: address.render("GET", "/", {}), count=3)
    assert load.statuses == {200: 3}


async def test_connection_that_ends_without_an_answer_is_counted_as_broken(serve: Serve) -> None:
    address = await serve(lambda number: None if number == 0 else b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    load = await run_load(address, 1, lambda _: address.render("GET", "/", {}), count=2)
    assert load.statuses == {BROKEN: 1, 200: 1}


async def test_load_of_a_duration_ends_in_time(serve: Serve) -> None:
    address = await serve(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    load = await run_load(address, 2, lambda _: address.render("GET", "/", {}), seconds=0.05)
    assert load.successes > 0
    assert load.seconds < 5
