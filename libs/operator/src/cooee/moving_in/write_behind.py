"""Write pages of rows while the next ones are read and converted."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self


class WriteBehind:
    """Begin to write pages in their order, in the background, and count them in their order.

    An error of a page is raised by a later call, or at the end of the block. Then the pages behind it are rolled back.
    """

    def __init__(self) -> None:
        self._pages: deque[tuple[asyncio.Future[Any], Callable[[Any], None]]] = deque()

    async def __aenter__(self) -> Self:
        """Begin without a page."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the last pages, or roll them back after an error."""
        try:
            if kind is None:
                await self._finish(0)
        finally:
            tasks = [task for task, _ in self._pages]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def write(
        self, write: Callable[[], Awaitable[Any]], count: Callable[[Any], None], *, at_once: int = 1
    ) -> None:
        """Start `write` when fewer than `at_once` pages are being written. `count` gets its result when it is done."""
        await self._finish(at_once - 1)
        self._pages.append((asyncio.ensure_future(write()), count))

    async def _finish(self, remaining: int) -> None:
        """Wait until only the last `remaining` pages are being written."""
        while len(self._pages) > remaining:
            task, count = self._pages[0]
            written = await task
            self._pages.popleft()
            count(written)
