"""The states of the page on a phone and on a desktop, in both colour schemes: width, contrast, hosts, screenshots."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import (
    E164,
    PHONE,
    SHOWN,
    OpenPage,
    PictureHost,
    has_no_sideways_scroll,
    rows,
    send_mms,
)
from tools.tests.handset.conftest import RunningHandset, Send

pytestmark = pytest.mark.browser

LONG = (
    "Hi Ana, your appointment at Torrens Physio is tomorrow at 10:30. Please arrive ten minutes early. " * 4,
    "您好，您的预约是明天上午十点半。請提前十分鐘到達。"
    "明日のご予約は十時半です。내일 오전 10시 30분에 예약되어 있습니다.",
    "สวัสดีค่ะ นัดหมายของคุณคือพรุ่งนี้เวลา 10:30 น. กรุณามาถึงก่อนเวลาสิบนาที",
    "موعدك غدا الساعة 10:30",
    "https://example.com/" + "aLongAddressWithoutAnyPlaceToBreak" * 6,
    "👩‍⚕️ 🐶 🎉",
)
# The elements whose text has a lower contrast to its background than WCAG AA demands. Controls that are disabled and
# elements that are not shown are exempt.
LOW_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const over = (color, under) => {
    canvas.fillStyle = `rgb(${under.join(" ")})`;
    canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)];
  };
  const luminance = (color) => color
    .map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const background = (element) => element
    ? over(getComputedStyle(element).backgroundColor, background(element.parentElement)) : [255, 255, 255];
  const low = [];
  const check = (element, color, ratio, what) => {
    const under = background(element);
    const [dark, light] = [luminance(under), luminance(over(color, under))].sort((a, b) => a - b);
    const found = (light + 0.05) / (dark + 0.05);
    if (found < ratio) low.push(`${what} ${element.className || element.id || element.tagName}: ${found.toFixed(2)}`);
  };
  const options = { opacityProperty: true, visibilityProperty: true };
  for (const element of document.querySelectorAll("body *")) {
    if (!element.checkVisibility(options) || element.closest(":disabled, .hidden")) continue;
    const style = getComputedStyle(element);
    const hasText = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (hasText) check(element, style.color, 4.5, "text");
    if (element.matches("input, textarea")) {
      check(element, getComputedStyle(element, "::placeholder").color, 4.5, "placeholder");
      // A field with the focus has an outline instead.
      if (!element.matches(":focus")) check(element.parentElement, style.borderColor, 3, "edge");
    }
    if (element.matches(".dot, .track")) check(element.parentElement, style.backgroundColor, 3, "sign");
  }
  return low;
}"""


class Sender(NamedTuple):
    """What the states of the page are made with."""

    handset: RunningHandset
    send: Send
    session: aiohttp.ClientSession
    pictures: PictureHost


async def show_nothing(sender: Sender, page: Page) -> None:
    """Show the page without messages."""
    await expect(page.get_by_role("heading", name="No messages yet")).to_be_visible()
    await expect(page.get_by_text("Send one with POST /api/sms/send/.")).to_be_in_viewport()


async def show_pictures(sender: Sender, page: Page) -> None:
    """Show a picture, two pictures, and the placeholders."""
    url = sender.pictures.url
    await send_mms(sender.session, sender.handset, f"{url}/map.svg")
    await send_mms(sender.session, sender.handset, "https://example.com/map.png", "s3://bucket/map.png")
    await send_mms(sender.session, sender.handset, f"{url}/broken.png", f"{url}/map.svg", f"{url}/map.svg")
    await page.goto(f"{sender.handset.url}/#{E164}")
    await expect(page.locator(".picture")).to_have_count(6)
    await expect(page.get_by_text("This picture cannot be shown")).to_be_visible()


async def show_long_texts(sender: Sender, page: Page) -> None:
    """Show long texts in several scripts, with the details of the last message."""
    for text in LONG:  # the provider removes letters of other scripts unless Unicode is enabled
        await sender.send(PHONE, text=text, enable_unicode=True)
    await page.goto(f"{sender.handset.url}/#{E164}")
    await expect(page.locator(".entry")).to_have_count(len(LONG))
    await page.locator("summary").last.click()
    await expect(page.locator(".foot").last).to_be_in_viewport(ratio=1)


async def show_failures(sender: Sender, page: Page) -> None:
    """Show failed messages, a reply, and the error of a receipt that cannot be sent."""
    async with sender.session.patch(f"{sender.handset.url}/api/settings/", json={"receipts": "on"}) as changed:
        assert changed.status == 200
    await sender.send("0491573770", text="Hello Mia, see you tomorrow.")
    await sender.send("0491574632", text="Hello Ana, see you tomorrow.")
    await page.goto(f"{sender.handset.url}/#+61491573770")
    await page.get_by_role("textbox", name="Reply to").fill("STOP")
    await page.keyboard.press("Enter")
    await expect(page.locator(".entry.in .tick")).to_have_text("no such subscriber")
    await page.locator("summary").click()
    await expect(page.locator("#number-about")).to_contain_text("Opted out with STOP")


async def search_in_vain(sender: Sender, page: Page) -> None:
    """Show a search without a result."""
    await sender.send(PHONE, "0412345678")
    await expect(rows(page)).to_have_count(2)
    await page.get_by_role("searchbox").fill("999")
    note = page.get_by_role("status").filter(has_text="No result")
    await expect(note).to_be_visible()
    field, below = await page.locator("#search").bounding_box(), await note.bounding_box()
    assert field
    assert below
    assert 0 <= below["y"] - (field["y"] + field["height"]) < 30


State = Callable[[Sender, Page], Awaitable[None]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("device", "width", "height"), [("phone", 390, 800), ("desktop", 1280, 800)])
@pytest.mark.parametrize(
    ("name", "show"),
    [
        ("empty", show_nothing),
        ("pictures", show_pictures),
        ("long", show_long_texts),
        ("failed", show_failures),
        ("search", search_in_vain),
    ],
)
async def test_state_of_the_page_is_legible_and_asks_no_other_host(
    handset: RunningHandset,
    send: Send,
    session: aiohttp.ClientSession,
    picture_host: PictureHost,
    open_page: OpenPage,
    pictures: Path,
    name: str,
    show: State,
    device: str,
    width: int,
    height: int,
    scheme: str,
) -> None:
    picture_host.ready.set()
    page = await open_page(handset.url, width=width, height=height, scheme=scheme)
    hosts: set[str | None] = set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    await show(Sender(handset, send, session, picture_host), page)
    await page.screenshot(path=pictures / f"{name}-{device}-{scheme}.png")
    assert await has_no_sideways_scroll(page)
    assert await page.evaluate(LOW_CONTRAST) == []
    assert hosts <= {"127.0.0.1"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_dialog_and_menu_have_contrast(
    handset: RunningHandset, send: Send, open_page: OpenPage, pictures: Path, scheme: str
) -> None:
    await send(PHONE)
    page = await open_page(f"{handset.url}/#{E164}", width=390, scheme=scheme)
    await page.get_by_role("button", name="Send a delivery receipt").click()
    await expect(page.get_by_role("menu")).to_be_visible()
    await page.screenshot(path=pictures / f"menu-phone-{scheme}.png")
    assert await page.evaluate(LOW_CONTRAST) == []
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Numbers").click()
    await page.screenshot(path=pictures / f"dialog-phone-{scheme}.png")
    assert await page.evaluate(LOW_CONTRAST) == []


async def test_fonts_for_chinese_japanese_korean_and_thai_are_named(
    handset: RunningHandset, send: Send, open_page: OpenPage
) -> None:
    await send(PHONE, text=LONG[1])
    page = await open_page(f"{handset.url}/#{E164}")
    for selector in (".entry .text", ".snippet", "#text"):
        families = await page.locator(selector).evaluate("element => getComputedStyle(element).fontFamily")
        for family in (
            "Noto Sans CJK SC",
            "PingFang SC",
            "Yu Gothic UI",
            "Malgun Gothic",
            "Noto Sans Thai",
            "Thonburi",
        ):
            assert family in families
        assert families.index("Noto Sans Thai") < families.index("sans-serif")


async def test_phone_without_messages_says_so_until_one_arrives(
    handset: RunningHandset, send: Send, open_page: OpenPage
) -> None:
    page = await open_page(handset.url, width=390)
    await expect(page.get_by_role("heading", name="No messages yet")).to_be_in_viewport()
    await expect(page.locator("#search")).to_be_visible()
    await send(PHONE)
    await expect(rows(page)).to_have_count(1)
    await expect(page.locator("#empty")).to_be_hidden()
    await rows(page).first.click()
    await expect(page.get_by_role("heading", name=SHOWN)).to_be_visible()
