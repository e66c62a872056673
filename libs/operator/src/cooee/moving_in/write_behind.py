"""Write a page of rows while the next one is read and converted."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self


class WriteBehind:
    """Write pages in their order, each in the background until the next one is ready.

    An error of a page is raised by the next call, or at the end of the block. At most one page is written at a time,
    so an interrupted import has written all pages before it and none after it.
    """

    def __init__(self) -> None:
        self._task: asyncio.Future[Any] | None = None
        self._count: Callable[[Any], None] = lambda _: None

    async def __aenter__(self) -> Self:
        """Begin without a page."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the last page, or roll it back after an error."""
        if kind is None:
            await self._finish()
        elif self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def write(self, write: Callable[[], Awaitable[Any]], count: Callable[[Any], None]) -> None:
        """Wait for the page before, then start `write`. `count` gets its result when it is done."""
        await self._finish()
        self._task, self._count = asyncio.ensure_future(write()), count

    async def _finish(self) -> None:
        if self._task is not None:
            written = await self._task
            self._task = None
            self._count(written)
