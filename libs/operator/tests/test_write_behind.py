"""Pages are written in their order while the block goes on, as many at once as the caller allows."""

import asyncio
from functools import partial

import pytest

from cooee.moving_in.write_behind import WriteBehind


async def test_a_page_is_written_while_the_block_goes_on_and_the_next_one_waits() -> None:
    done: list[str] = []
    may_end = asyncio.Event()

    async def first() -> str:
        done.append("first began")
        await may_end.wait()
        return "first counted"

    async def second() -> str:
        done.append("second began")
        return "second counted"

    async with WriteBehind() as behind:
        await behind.write(first, done.append)
        next_page = asyncio.ensure_future(behind.write(second, done.append))
        await asyncio.wait([next_page], timeout=0)
        done.append("next page is ready")
        may_end.set()
        await next_page
    assert done == ["first began", "next page is ready", "first counted", "second began", "second counted"]


async def _fail() -> None:
    raise ValueError("page 1")


@pytest.mark.parametrize("is_last", [True, False])
async def test_an_error_of_a_page_ends_the_block(is_last: bool) -> None:
    written: list[int] = []

    async def write(number: int) -> int:
        return number

    with pytest.raises(ValueError, match="page 1"):
        async with WriteBehind() as behind:
            await behind.write(_fail, written.append)
            if not is_last:
                await behind.write(partial(write, 2), written.append)
    assert written == []


async def test_an_error_of_the_block_cancels_the_page() -> None:
    ended: list[str] = []
    began = asyncio.Event()

    async def write() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("rolled back")

    with pytest.raises(ValueError, match="reading"):
        async with WriteBehind() as behind:
            await behind.write(write, ended.append)
            await began.wait()
            raise ValueError("reading")
    assert ended == ["rolled back"]


async def test_two_pages_are_written_at_once_and_counted_in_their_order() -> None:
    done: list[str] = []
    second_ended = asyncio.Event()

    async def first() -> str:
        await second_ended.wait()
        return "first"

    async def second() -> str:
        second_ended.set()
        return "second"

    async def third() -> str:
        return f"third after {done}"

    async with WriteBehind() as behind:
        await behind.write(first, done.append, at_once=2)
        await behind.write(second, done.append, at_once=2)
        await behind.write(third, done.append)
    assert done == ["first", "second", "third after ['first', 'second']"]


async def test_an_error_rolls_the_later_page_back() -> None:
    ended: list[str] = []
    began = asyncio.Event()

    async def fail() -> None:
        await began.wait()
        raise ValueError("page 1")

    async def write() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("rolled back")

    with pytest.raises(ValueError, match="page 1"):
        async with WriteBehind() as behind:
            await behind.write(fail, ended.append, at_once=2)
            await behind.write(write, ended.append, at_once=2)
    assert ended == ["rolled back"]
