"""Fixtures with an installed browser, driven by Playwright. Without a browser the tests say how to get one."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tools.tests.handset.conftest import (  # noqa: F401 (fixtures)
    RunningHandset,
    Send,
    handset,
    send,
    session,
    shared_handset,
)

NAMES = ("chromium", "chromium-browser", "google-chrome")
HOW_TO = "no browser was found: run `make test-browser` as root, or set CHROMIUM to the path of one"


@pytest.fixture(scope="session")
def executable() -> str:
    """Return the path of the browser. Without one the tests are skipped, but in continuous integration they fail."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found:
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(HOW_TO)
    pytest.skip(HOW_TO)


@pytest.fixture(scope="session")
async def browser(executable: str) -> AsyncIterator[Browser]:
    """Start the browser."""
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield launched
        await launched.close()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder for screenshots: SCREENSHOTS, or a temporary one whose path is printed at the end."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    print(f"\nscreenshots: {folder}")


OpenPage = Callable[..., Awaitable[Page]]


@pytest.fixture
async def open_page(browser: Browser) -> AsyncIterator[OpenPage]:
    """`await open_page(url)` opens an address in a new context. Errors and warnings of the console fail the test."""
    problems: list[str] = []
    contexts = []

    async def new(url: str, *, width: int = 1280, height: int = 800, scheme: str = "light") -> Page:
        context = await browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
            permissions=["clipboard-read", "clipboard-write"],
        )
        contexts.append(context)
        page = await context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda message: message.type in ("error", "warning") and problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.goto(url)
        return page

    yield new
    await asyncio.gather(*(context.close() for context in contexts))
    assert not problems
