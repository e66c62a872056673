"""The messages of a conversation: pictures, details, and the menu of receipts on a phone."""

import aiohttp
import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import E164, PHONE, OpenPage, PictureHost, send_mms
from tools.tests.handset.conftest import RunningHandset, Send

pytestmark = pytest.mark.browser

RECEIPT = "Send a delivery receipt"


async def from_end(page: Page) -> float:
    """Return how many pixels of the conversation are below its visible part."""
    return float(await page.locator("#scroll").evaluate("s => s.scrollHeight - s.scrollTop - s.clientHeight"))


async def open_menu(page: Page) -> Locator:
    """Open the menu of the last message, and return it."""
    await page.get_by_role("button", name=RECEIPT).last.click()
    menu = page.get_by_role("menu", name=RECEIPT)
    await expect(menu).to_be_visible()
    return menu


async def status_of(session: aiohttp.ClientSession, handset: RunningHandset) -> str:
    """Return the status of the only message."""
    async with session.get(f"{handset.url}/api/messages/") as answer:
        (message,) = (await answer.json())["messages"]
        return str(message["status"])


@pytest.mark.parametrize("width", [390, 1280])
async def test_conversation_with_pictures_opens_at_its_end_and_stays_there(
    handset: RunningHandset,
    session: aiohttp.ClientSession,
    picture_host: PictureHost,
    open_page: OpenPage,
    width: int,
) -> None:
    for number in range(6):
        await send_mms(session, handset, f"{picture_host.url}/map.svg?{number}")
    page = await open_page(f"{handset.url}/#{E164}", width=width)
    await expect(page.locator(".entry")).to_have_count(6)
    await expect(page.locator(".entry").last).to_be_in_viewport(ratio=0.9)
    before = await page.locator("#scroll").evaluate("s => s.scrollHeight")
    assert await from_end(page) < 1
    picture_host.ready.set()
    await expect(page.locator(".picture img").last).to_have_js_property("naturalHeight", 1200)
    assert await page.locator("#scroll").evaluate("s => s.scrollHeight") == before
    assert await from_end(page) < 1


async def test_picture_that_is_broken_has_words_instead_and_the_size_of_a_picture(
    handset: RunningHandset, session: aiohttp.ClientSession, picture_host: PictureHost, open_page: OpenPage
) -> None:
    await send_mms(session, handset, f"{picture_host.url}/broken.png")
    page = await open_page(f"{handset.url}/#{E164}")
    reserved = await page.locator(".picture").bounding_box()
    picture_host.ready.set()
    picture = page.get_by_role("link", name="This picture cannot be shown broken.png")
    await expect(picture).to_be_visible()
    await expect(picture).to_have_attribute("href", f"{picture_host.url}/broken.png")
    assert await picture.bounding_box() == reserved
    assert await page.locator(".picture img").count() == 0


async def test_picture_of_another_host_is_not_asked_for_but_linked(
    handset: RunningHandset, session: aiohttp.ClientSession, open_page: OpenPage
) -> None:
    address = "http://[::1]:9/map.png"  # an address of this machine that is not the page's host
    await send_mms(session, handset, address)
    page = await open_page(handset.url)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.locator("#phones a").click()
    link = page.get_by_role("link", name="Picture on another host")
    await expect(link).to_have_attribute("href", address)
    await expect(link).to_have_attribute("rel", "noopener noreferrer")
    assert asked
    assert all(url.startswith(f"{handset.url}/") for url in asked)


async def test_status_is_shown_once_and_the_providers_own_in_the_details(
    handset: RunningHandset, send: Send, session: aiohttp.ClientSession, open_page: OpenPage
) -> None:
    await send(PHONE)
    page = await open_page(f"{handset.url}/#{E164}")
    entry = page.locator(".entry")
    await entry.get_by_role("button", name="Deliver").click()
    await expect(entry.get_by_text("delivered", exact=True)).to_have_count(2)
    await expect(entry.locator(".facts").get_by_text("delivered", exact=True)).to_have_count(1)
    await expect(entry.locator("dl")).to_be_hidden()
    assert await entry.locator(".tick").get_attribute("title") is None
    summary = entry.locator("summary")
    await summary.focus()
    await page.keyboard.press("Enter")
    await expect(entry.get_by_role("definition").first).to_have_text("delivered")
    await expect(entry.get_by_role("term")).to_have_text(["Provider's status", "Reference", "Provider's id"])
    await page.keyboard.press("Enter")
    await expect(entry.locator("dl")).to_be_hidden()


async def test_menu_replaces_the_buttons_on_a_phone_only(
    handset: RunningHandset, send: Send, open_page: OpenPage
) -> None:
    await send(PHONE)
    page = await open_page(f"{handset.url}/#{E164}", width=390)
    entry = page.locator(".entry")
    await expect(entry.get_by_role("button")).to_have_count(1)
    await expect(entry.get_by_role("combobox")).to_have_count(0)
    await page.set_viewport_size({"width": 1280, "height": 800})
    await expect(entry.get_by_role("button")).to_have_count(3)
    await expect(entry.get_by_role("combobox")).to_have_count(1)


async def test_menu_is_used_with_the_keyboard(
    handset: RunningHandset, send: Send, session: aiohttp.ClientSession, open_page: OpenPage
) -> None:
    await send(PHONE)
    page = await open_page(f"{handset.url}/#{E164}", width=390)
    button = page.get_by_role("button", name=RECEIPT)
    await expect(button).to_have_attribute("aria-haspopup", "menu")
    await expect(button).to_have_attribute("aria-expanded", "false")
    await button.focus()
    await page.keyboard.press("Enter")
    await expect(button).to_have_attribute("aria-expanded", "true")
    items = page.get_by_role("menu", name=RECEIPT).get_by_role("menuitem")
    await expect(items).to_have_count(12)
    for key, index in (("ArrowDown", 1), ("ArrowUp", 0), ("ArrowUp", 11), ("ArrowDown", 0), ("End", 11), ("Home", 0)):
        await page.keyboard.press(key)
        await expect(items.nth(index)).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(items).to_have_count(0)
    await expect(button).to_be_focused()
    await expect(button).to_have_attribute("aria-expanded", "false")
    await expect(page.locator("#thread")).to_be_visible()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await expect(items).to_have_count(0)
    await expect(page.get_by_role("button", name="STOP")).to_be_focused()
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Space")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(page.locator(".tick").last).to_have_text("not delivered")
    await expect(page.locator("#announcer")).to_have_text("Receipt sent: not delivered")
    await expect(button).to_be_focused()
    assert await status_of(session, handset) == "undelivered"


async def test_menu_closes_on_a_click_outside_and_on_its_button(
    handset: RunningHandset, send: Send, session: aiohttp.ClientSession, open_page: OpenPage
) -> None:
    await send(PHONE)
    page = await open_page(f"{handset.url}/#{E164}", width=390)
    menu = await open_menu(page)
    await page.locator("#number").click()
    await expect(menu).to_be_hidden()
    await expect(page.get_by_role("button", name=RECEIPT)).to_have_attribute("aria-expanded", "false")
    await open_menu(page)
    await page.get_by_role("button", name=RECEIPT).click()
    await expect(menu).to_be_hidden()
    assert await status_of(session, handset) == "accepted"


async def test_menu_sends_the_receipt_of_the_message_that_it_belongs_to(
    handset: RunningHandset, send: Send, open_page: OpenPage
) -> None:
    for text in ("First", "Second"):
        await send(PHONE, text=text)
    page = await open_page(f"{handset.url}/#{E164}", width=390)
    first, second = (page.locator(".entry", has_text=text) for text in ("First", "Second"))
    await first.get_by_role("button", name=RECEIPT).click()
    await page.get_by_role("menuitem", name="Expired").click()
    await expect(first.locator(".tick")).to_have_text("expired")
    await expect(second.locator(".tick")).to_have_text("accepted")
    await second.get_by_role("button", name=RECEIPT).click()
    await page.get_by_role("menuitem", name="Deliver", exact=True).click()
    await expect(second.locator(".tick")).to_have_text("delivered")


@pytest.mark.parametrize("height", [400, 640, 900])
async def test_menu_stays_within_the_window(
    handset: RunningHandset, send: Send, open_page: OpenPage, height: int
) -> None:
    for number in range(8):
        await send(PHONE, text=f"Message {number}")
    page = await open_page(f"{handset.url}/#{E164}", width=390, height=height)
    for index in (0, 4, 7):
        button = page.get_by_role("button", name=RECEIPT).nth(index)
        await button.click()
        box = await page.get_by_role("menu").bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["y"] >= 0
        assert box["x"] + box["width"] <= 390
        assert box["y"] + box["height"] <= height
        await page.keyboard.press("Escape")
