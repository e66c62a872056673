"""The two pages of the API documentation: both colour schemes, and no request to another host."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser

from tools.embedded.supervisor import Stack

pytestmark = pytest.mark.browser

# The contrast of the text of an element with the first background below it, as WCAG defines it.
CONTRAST = """
(element) => {
  const parse = (color) => (color.match(/[0-9.]+/g) ?? []).map(Number);
  const luminance = ([red, green, blue]) => {
    const linear = (c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = [red, green, blue].map(linear);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let below = element;
  while (below && (parse(getComputedStyle(below).backgroundColor)[3] ?? 1) < 0.5) below = below.parentElement;
  const back = luminance(below ? parse(getComputedStyle(below).backgroundColor) : [255, 255, 255]);
  const front = luminance(parse(getComputedStyle(element).color));
  return { contrast: (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05), isDark: back < 0.2 };
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/api/docs/", "/api/redoc/"])
async def test_a_page_can_be_read_in_both_schemes_and_asks_no_other_host(
    browser: Browser, stack: Stack, pictures: Path, path: str, scheme: str
) -> None:
    context = await browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page = await context.new_page()
    page.set_default_timeout(60_000)
    hosts: set[str] = set()
    problems: list[str] = []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.on("console", lambda message: message.type == "error" and problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    await page.goto(stack.url("gateway") + path)
    summary = page.get_by_text("Send a message now", exact=True).last
    await summary.wait_for()
    await page.wait_for_load_state("networkidle")
    await page.screenshot(path=pictures / f"docs-{path.split('/')[2]}-{scheme}.png")
    for found in (summary, page.get_by_text("Authentication.", exact=True).first):
        measured = await found.evaluate(CONTRAST)
        assert measured["contrast"] >= 4.5, measured
        assert measured["isDark"] == (scheme == "dark")
    await context.close()
    assert hosts - {""} == {urlsplit(stack.url("gateway")).netloc}
    assert not problems
