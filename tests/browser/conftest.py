"""Fixtures with an installed browser, driven by Playwright. Without a browser the tests say how to get one."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import Browser, Locator, Page, async_playwright, expect

from tools.tests.handset.conftest import (  # noqa: F401 (fixtures)
    RunningHandset,
    Send,
    handset,
    send,
    session,
    shared_handset,
)

PHONE, SHOWN, E164 = "0491570006", "0491 570 006", "+61491570006"
expect.set_options(timeout=15_000)
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


class PictureHost:
    """A host of media on another port: `map.svg` is tall, `broken.png` is not a picture. `ready` lets it answer."""

    def __init__(self) -> None:
        self.url = ""
        self.ready = asyncio.Event()
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        """Answer when `ready` is set."""
        self.asked.append(request.path)
        await self.ready.wait()
        if request.path == "/broken.png":
            return web.Response(body=b"broken", content_type="image/png")
        return web.Response(text=TALL_PICTURE, content_type="image/svg+xml")


TALL_PICTURE = """<svg xmlns="http://www.w3.org/2000/svg" width="600" height="1200" viewBox="0 0 6 12">
<path fill="#b9d9cc" d="M0 0h6v12H0z"/><path fill="none" stroke="#1d6a58" d="M1 11C1 6 5 7 5 1"/></svg>"""


@pytest.fixture
async def picture_host() -> AsyncIterator[PictureHost]:
    """Serve pictures. `url` is the address."""
    host = PictureHost()
    app = web.Application()
    app.router.add_get("/{name}", host.answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield host
    host.ready.set()
    await runner.cleanup()


def rows(page: Page) -> Locator:
    """Return the rows of the list of phones."""
    return page.locator("#phones li")


async def has_no_sideways_scroll(page: Page) -> bool:
    """Return whether the page is not wider than its window."""
    return bool(await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


async def send_mms(client: aiohttp.ClientSession, running: RunningHandset, *media: str) -> None:
    """Send an MMS with these addresses of media through Twilio."""
    fields = [("To", E164), ("From", "+61491570110"), ("Body", "Here is your map.")]
    url = f"{running.url}/twilio/2010-04-01/Accounts/AC1/Messages.json"
    async with client.post(url, data=[*fields, *(("MediaUrl", address) for address in media)]) as answer:
        assert answer.status == 201


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
