"""Write pages of rows while the next ones are read and converted."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self


class PageWriter:
    """Write pages in the background, starting and counting them in their order.

    An error of a page is raised by a later call, or at the end of the block. Pages that are still being written are
    cancelled, which rolls them back. A later page that has already committed stays; the next run finds it.
    """

    def __init__(self) -> None:
        self._pages: deque[tuple[asyncio.Future[Any], Callable[[Any], None]]] = deque()

    async def __aenter__(self) -> Self:
        """Return the writer, which has no page yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the last pages, or cancel them after an error."""
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
        """Start `write` when fewer than `at_once` pages are being written. When it is done, `count` gets its result."""
        await self._finish(at_once - 1)
        self._pages.append((asyncio.ensure_future(write()), count))

    async def _finish(self, remaining: int) -> None:
        """Wait until only the last `remaining` pages are being written."""
        while len(self._pages) > remaining:
            task, count = self._pages[0]
            written = await task
            self._pages.popleft()
            count(written)
