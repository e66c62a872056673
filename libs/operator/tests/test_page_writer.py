"""Pages are written in their order while the block goes on, as many at once as the caller allows."""

import asyncio
from functools import partial

import pytest

from cooee.moving_in.page_writer import PageWriter


class EndlessPage:
    """A page whose writing ends only when it is cancelled."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.ended: list[str | None] = []

    async def write(self) -> None:
        """Wait for the cancellation."""
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.append("rolled back")


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

    async with PageWriter() as writer:
        await writer.write(first, done.append)
        next_page = asyncio.ensure_future(writer.write(second, done.append))
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
        async with PageWriter() as writer:
            await writer.write(_fail, written.append)
            if not is_last:
                await writer.write(partial(write, 2), written.append)
    assert written == []


async def test_an_error_of_the_block_cancels_the_page() -> None:
    page = EndlessPage()
    with pytest.raises(ValueError, match="reading"):
        async with PageWriter() as writer:
            await writer.write(page.write, page.ended.append)
            await page.began.wait()
            raise ValueError("reading")
    assert page.ended == ["rolled back"]


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

    async with PageWriter() as writer:
        await writer.write(first, done.append, at_once=2)
        await writer.write(second, done.append, at_once=2)
        await writer.write(third, done.append)
    assert done == ["first", "second", "third after ['first', 'second']"]


async def test_an_error_cancels_a_later_page_that_is_being_written() -> None:
    page = EndlessPage()

    async def fail() -> None:
        await page.began.wait()
        raise ValueError("page 1")

    with pytest.raises(ValueError, match="page 1"):
        async with PageWriter() as writer:
            await writer.write(fail, page.ended.append, at_once=2)
            await writer.write(page.write, page.ended.append, at_once=2)
    assert page.ended == ["rolled back"]


async def test_a_later_page_that_was_written_before_the_error_stays_and_is_not_counted() -> None:
    written: list[str] = []
    counted: list[None] = []
    second_ended = asyncio.Event()

    async def fail() -> None:
        await second_ended.wait()
        raise ValueError("page 1")

    async def second() -> None:
        written.append("second")
        second_ended.set()

    with pytest.raises(ValueError, match="page 1"):
        async with PageWriter() as writer:
            await writer.write(fail, counted.append, at_once=2)
            await writer.write(second, counted.append, at_once=2)
    assert (written, counted) == (["second"], [])
