"""The handset's page in a real browser: messages, replies, receipts, keyboard, colour schemes and widths."""

import asyncio
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import expect

from tests.browser.conftest import E164, PHONE, SHOWN, OpenPage, has_no_sideways_scroll, rows, send_mms
from tests.conftest import Client, ClientOf
from tools.embedded.supervisor import Stack
from tools.tests.handset.conftest import RunningHandset, Send
from tools.tests.handset.listener import Listener

pytestmark = pytest.mark.browser

TIMEOUT_S = 30
MARKUP = """<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>"""


async def test_new_messages_appear_on_the_open_page(handset: RunningHandset, send: Send, open_page: OpenPage) -> None:
    page = await open_page(handset.url)
    await expect(page.get_by_text("No messages yet")).to_be_visible()
    await send(PHONE, text="First")
    await expect(rows(page)).to_have_count(1)
    await expect(rows(page).first).to_contain_text("First")
    await send("0491570110", text="Second")
    await expect(rows(page).first).to_contain_text("Second")
    await expect(page.locator("#announcer")).to_have_text("Message for 0491 570 110: Second")
    await page.get_by_role("link", name=re.compile(SHOWN)).click()
    await expect(page.get_by_role("heading", name=SHOWN)).to_be_visible()
    await send(PHONE, text="x" * 161)
    last = page.locator(".entry").last
    for detail in ("2 parts, GSM-7", "0491 570 110", "Mobile Message", "accepted"):
        await expect(last).to_contain_text(detail)


async def test_markup_in_a_text_is_shown_as_text(handset: RunningHandset, send: Send, open_page: OpenPage) -> None:
    await send(PHONE, text=MARKUP)
    page = await open_page(f"{handset.url}/#{E164}")
    await expect(page.locator(".entry .text")).to_have_text(MARKUP)
    await expect(rows(page).first).to_contain_text("<script>")
    assert "owned" not in await page.title()
    assert await page.locator(".entry .text > *, .snippet > *").count() == 0


async def test_pictures_are_shown_and_other_addresses_are_not_linked(
    handset: RunningHandset, session: aiohttp.ClientSession, open_page: OpenPage
) -> None:
    await send_mms(session, handset, f"{handset.url}/assets/icon.svg", "javascript:alert(1)", "s3://bucket/map.png")
    page = await open_page(f"{handset.url}/#{E164}")
    await expect(page.locator(".media img")).to_have_count(1)
    await expect(page.locator(".media")).to_contain_text("javascript:alert(1)")
    assert await page.locator(".media a[href]").count() == 1
    await expect(page.locator(".media img")).to_have_js_property("complete", True)
    assert await page.locator(".media img").evaluate("image => image.naturalWidth") > 0


async def test_replies_and_keywords_are_sent(handset: RunningHandset, send: Send, open_page: OpenPage) -> None:
    await send(PHONE, text="Reply STOP to opt out")
    page = await open_page(f"{handset.url}/#{E164}")
    box = page.get_by_role("textbox", name=re.compile("Reply to"))
    await box.fill("Thanks")
    await box.press("Shift+Enter")
    await box.press_sequentially("Ana")
    await box.press("Enter")
    await expect(page.locator(".out .text")).to_have_text("Thanks\nAna")
    await expect(box).to_have_value("")
    await page.get_by_role("button", name="STOP").click()
    await expect(page.locator("#number-about")).to_contain_text("Opted out with STOP at Mobile Message")
    _, _, body = await send(PHONE)
    assert json.loads(body)["results"][0]["status"] == "blocked"
    await page.get_by_role("button", name="START").click()
    await expect(page.locator("#number-about")).not_to_contain_text("STOP")


async def test_reply_to_a_name_is_disabled(
    handset: RunningHandset, session: aiohttp.ClientSession, open_page: OpenPage
) -> None:
    body = {"messages": [{"to": PHONE, "message": "Hello", "sender": "Torrens", "custom_ref": "1"}]}
    async with session.post(f"{handset.url}/v1/messages", json=body) as answer:
        assert answer.status == 200
    page = await open_page(f"{handset.url}/#{E164}")
    await expect(page.locator("#text")).to_be_disabled()
    await expect(page.locator("#text")).to_have_attribute("placeholder", re.compile("The sender ID is a name"))


async def test_receipts_are_sent_with_buttons_menu_and_switch(
    handset: RunningHandset, send: Send, session: aiohttp.ClientSession, open_page: OpenPage
) -> None:
    async with Listener() as listener:
        fields = {"To": E164, "From": "+61491570110", "Body": "Hello", "StatusCallback": f"{listener.url}/status"}
        url = f"{handset.url}/twilio/2010-04-01/Accounts/AC1/Messages.json"
        async with session.post(url, data=fields) as answer:
            assert answer.status == 201
        page = await open_page(f"{handset.url}/#{E164}")
        entry = page.locator(".entry")
        await entry.get_by_role("button", name="Fail").click()
        await expect(entry).to_contain_text("not delivered")
        await expect(entry.locator("dd").first).to_have_text("undelivered 30003")
        await entry.get_by_role("button", name="Deliver").click()
        await expect(entry.locator(".tick")).to_have_text("delivered")
        await expect(entry.locator("dl")).to_contain_text("Cooee's webhook200")
        await entry.get_by_role("combobox").select_option("Delivered, three times")
        await listener.wait(lambda received: len(received) == 5)
        await entry.get_by_role("button", name="Fail").click()
        await expect(page.get_by_role("alert")).to_contain_text("stays delivered")
    switch = page.get_by_role("switch", name="Automatic receipts")
    await expect(switch).not_to_be_checked()
    await switch.click()
    await expect(switch).to_be_checked()
    await send("0491574118", text="Too late")
    await expect(rows(page).first.locator(".tick")).to_have_text("expired")


async def test_page_is_used_with_the_keyboard_only(handset: RunningHandset, send: Send, open_page: OpenPage) -> None:
    for number in range(3):
        await send(f"041234567{number}", text=f"Message {number}")
    page = await open_page(handset.url)
    await expect(rows(page)).to_have_count(3)
    await page.keyboard.press("/")
    await expect(page.locator("#search")).to_be_focused()
    for _ in range(2):
        await page.keyboard.press("ArrowDown")
    await expect(rows(page).nth(1).locator("a")).to_be_focused()
    outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    await send("0412345679", text="Moves the rows")
    await expect(rows(page)).to_have_count(4)
    await expect(page.get_by_role("link", name=re.compile("Message 1"))).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#text")).to_be_focused()
    await page.keyboard.type("Typed")
    await page.keyboard.press("Enter")
    await expect(page.locator(".out .text")).to_have_text("Typed")
    await page.keyboard.press("Escape")
    await expect(page.locator("#thread")).to_be_hidden()


async def test_phones_are_searched_and_numbers_copied(handset: RunningHandset, send: Send, open_page: OpenPage) -> None:
    await send("0412345678", "0498765432")
    page = await open_page(handset.url)
    await expect(rows(page)).to_have_count(2)
    await page.get_by_role("searchbox").fill("0412 345")
    await expect(rows(page)).to_have_count(1)
    await page.get_by_role("searchbox").fill("999999")
    await expect(page.get_by_role("status").filter(has_text="No result")).to_be_visible()
    await page.get_by_role("searchbox").fill("Ana")
    await expect(rows(page)).to_have_count(0)
    await page.get_by_role("searchbox").fill("+61 (4) 98")
    await expect(rows(page)).to_have_count(1)
    await expect(page.get_by_text("No result")).to_be_hidden()
    await page.get_by_role("button", name="Scenario numbers").click()
    dialog = page.get_by_role("dialog", name="Scenario numbers")
    await expect(dialog.get_by_role("listitem")).to_have_count(30)
    await dialog.get_by_role("button", name="Copy 0491 570 156").click()
    assert await page.evaluate("navigator.clipboard.readText()") == "0491570156"
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()


async def test_thousands_of_messages_are_shown_page_by_page(
    handset: RunningHandset, send: Send, open_page: OpenPage
) -> None:
    await send(*[f"04{number:08}" for number in range(5000)])
    await send(*[PHONE] * 120)
    page = await open_page(f"{handset.url}/#{E164}")
    await expect(rows(page)).to_have_count(200)
    await expect(page.get_by_text("The newest 200 of 5001 phones.")).to_be_visible()
    await expect(page.locator(".entry")).to_have_count(50)
    for count in (100, 120):
        await page.get_by_role("button", name="Earlier messages").click()
        await expect(page.locator(".entry")).to_have_count(count)
    await expect(page.get_by_role("button", name="Earlier messages")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("name", "width", "height"), [("small phone", 320, 640), ("phone", 375, 740), ("desktop", 1280, 800)]
)
async def test_page_fits_every_width_in_both_colour_schemes(
    handset: RunningHandset,
    send: Send,
    session: aiohttp.ClientSession,
    open_page: OpenPage,
    pictures: Path,
    scheme: str,
    name: str,
    width: int,
    height: int,
) -> None:
    for number in range(12):
        await send(f"0412{number * 83:06}", text="Hi, your appointment is tomorrow at 10:30. Torrens Physio")
    await send(PHONE, text="aLongWordWithoutAnyPlaceToBreak" * 8)
    await send_mms(session, handset, f"{handset.url}/assets/icon.svg")
    page = await open_page(handset.url, width=width, height=height, scheme=scheme)
    await expect(rows(page)).to_have_count(13)
    background = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 384) == (scheme == "dark")
    assert await has_no_sideways_scroll(page)
    button = await page.locator("#open-scenarios").bounding_box()
    assert button
    assert button["x"] + button["width"] < width
    await page.screenshot(path=pictures / f"{name.replace(' ', '-')}-{scheme}-list.png")
    await rows(page).first.click()
    await expect(page.locator(".entry")).to_have_count(2)
    await page.get_by_role("textbox", name=re.compile("Reply")).fill("Thanks")
    await page.keyboard.press("Enter")
    await expect(page.locator(".out")).to_be_visible()
    assert await has_no_sideways_scroll(page)
    assert await page.locator("nav.phones").is_visible() == (name == "desktop")
    await page.screenshot(path=pictures / f"{name.replace(' ', '-')}-{scheme}-conversation.png")
    if name != "desktop":
        await page.get_by_role("link", name="Back to the phones").click()
        await expect(page.locator("nav.phones")).to_be_visible()


async def test_message_is_delivered_and_opted_out_in_the_whole_system(
    stack: Stack, client_of: ClientOf, session: aiohttp.ClientSession, open_page: OpenPage
) -> None:
    """Send through the API, receive the automatic receipt, and opt out with STOP on the page."""
    client = client_of("org_browser", role="admin")
    async with session.patch(f"{stack.url('handset')}/api/settings/", json={"receipts": "on"}) as changed:
        assert changed.status == 200
    person = {"first_name": "Ana", "last_name": "Li", "phone": PHONE}
    contact = (await client("POST", "/api/contacts/", json=person)).body
    page = await open_page(f"{stack.url('handset')}/#{E164}")
    sent = await client("POST", "/api/sms/send/", json={"message": "Hello Ana", "recipient": PHONE})
    assert sent.status == 202
    entry = page.locator(".entry.in", has_text="Hello Ana")
    await expect(entry.locator(".tick")).to_have_text("delivered")
    await expect(entry.locator("dl")).to_contain_text("Cooee's webhook200")
    await until(client, f"/api/messages/?phone={PHONE}&status=delivered", lambda found: found["results"])
    await page.get_by_role("button", name="STOP").click()
    await until(client, f"/api/contacts/{contact['id']}/", lambda found: found["opt_out"])
    refused = await client("POST", "/api/sms/send/", json={"message": "Once more", "recipient": PHONE})
    assert refused.status == 400


async def until(client: Client, path: str, condition: Callable[[Any], object]) -> None:
    """Poll a path until its body meets the condition. Fails after the time-out."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition(found := (await client("GET", path)).body):
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)
