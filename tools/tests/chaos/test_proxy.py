"""The proxy forwards bytes in order, also delayed, and resets and refuses connections while it is cut."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tools.chaos.proxy import TcpProxy
from tools.embedded.processes import free_port

TEXT = b"one line\n"


@pytest.fixture
async def proxy() -> AsyncIterator[TcpProxy]:
    """Start a proxy before a server that sends each line back."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(line)
        except OSError:
            pass  # the proxy resets the connection
        finally:
            writer.close()

    port = free_port()
    server = await asyncio.start_server(echo, "127.0.0.1", port)
    running = TcpProxy(port)
    await running.start()
    yield running
    await running.cut()
    server.close()


async def test_lines_pass_in_order_with_and_without_a_delay(proxy: TcpProxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    for delay_s in (0.0, 0.01):
        proxy.delay_s = delay_s
        lines = [b"%d\n" % number for number in range(20)]
        for line in lines:
            writer.write(line)
        assert [await reader.readline() for _ in lines] == lines
    writer.close()


async def test_end_of_a_connection_reaches_the_other_side(proxy: TcpProxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(TEXT)
    writer.write_eof()
    assert await reader.read() == TEXT
    writer.close()


async def test_cut_resets_connections_and_refuses_new_ones_until_the_start(proxy: TcpProxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(TEXT)
    assert await reader.readline() == TEXT
    await proxy.cut()
    with pytest.raises(ConnectionError):
        while True:
            writer.write(TEXT)
            await writer.drain()
            if not await reader.readline():
                raise ConnectionResetError
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", proxy.port)
    await proxy.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(TEXT)
    assert await reader.readline() == TEXT
    writer.close()


async def test_connection_is_reset_when_the_target_does_not_listen() -> None:
    proxy = TcpProxy(free_port())
    await proxy.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        finally:
            writer.close()
    finally:
        await proxy.cut()
