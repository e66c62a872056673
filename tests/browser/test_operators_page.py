"""The operators' page in a browser: sign in, find a message, pause its organisation, and see the audit."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from cooee.stack import Stack
from libs.operator.tests.conftest import databases, sql, urls  # noqa: F401 (fixtures)
from libs.operator.tests.page.conftest import FERN, OPERATORS, World, issuer, make_stack, world  # noqa: F401 (fixtures)
from tests.browser.conftest import OpenPage, has_no_sideways_scroll
from tests.browser.test_appearance import LOW_CONTRAST
from tools.embedded.processes import free_port
from tools.token import Issuer, Session, mint

pytestmark = pytest.mark.browser
SIZES = {"phone": (380, 780), "desktop": (1400, 900)}


@pytest.fixture
def serve(make_stack: Callable[..., Stack], tmp_path: Path) -> Iterator[Callable[..., str]]:  # noqa: F811 (a fixture)
    """`serve(NAME="value")` runs `cooee page` over the databases of the tests, and returns its address."""
    with contextlib.ExitStack() as running:

        def start(**variables: str) -> str:
            port = str(free_port())
            stack = make_stack(OPERATORS_PORT=port, COOEE_HOME=str(tmp_path), **variables)
            command = [sys.executable, "-m", "cooee", "page"]
            process = subprocess.Popen(
                command, env={**os.environ, **stack.environment}, stderr=subprocess.PIPE, text=True
            )
            running.callback(process.communicate, timeout=20)
            running.callback(process.terminate)
            assert process.stderr is not None
            assert process.stderr.readline() == f"operators' page: http://127.0.0.1:{port}/\n"
            return f"http://127.0.0.1:{port}/"

        yield start


async def look(page: Page, pictures: Path, name: str) -> None:
    """Check the width and the contrasts of a page, and take a picture of it."""
    await page.wait_for_load_state()
    assert await has_no_sideways_scroll(page), name
    assert await page.evaluate(LOW_CONTRAST) == [], name
    assert await page.locator("input:visible, select:visible, textarea:visible").evaluate_all(
        "fields => fields.every(field => field.labels.length > 0)"
    )
    await page.screenshot(path=pictures / f"operators-{name}.png", full_page=True)


@pytest.mark.parametrize(("scheme", "size"), [("light", "phone"), ("dark", "desktop")])
async def test_operator_pauses_the_organisation_of_a_message(
    serve: Callable[..., str],  # before the browser, which ends first
    open_page: OpenPage,
    world: World,  # noqa: F811 (a fixture)
    issuer: Issuer,  # noqa: F811 (a fixture)
    pictures: Path,
    scheme: str,
    size: str,
) -> None:
    width, height = SIZES[size]
    kind = f"{scheme}-{size}"
    page = await open_page(f"{serve()}sign-in", width=width, height=height, scheme=scheme)
    await look(page, pictures, f"sign-in-{kind}")
    token = mint(Session("user_ana", OPERATORS, "admin", ttl_s=60), issuer)
    await page.get_by_label("Session token").fill(token)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    await look(page, pictures, f"overview-{kind}")

    await page.get_by_role("link", name="Messages").click()
    await page.get_by_label("Provider's id").fill("SM00123")
    await page.get_by_role("button", name="Search").click()
    await look(page, pictures, f"messages-{kind}")
    await page.get_by_role("cell", name=str(world.message), exact=True).first.get_by_role("link").click()
    await expect(page.get_by_role("heading", name=f"Message {world.message}")).to_be_visible()
    await expect(page.get_by_text("+61491570006")).to_have_count(0)
    await look(page, pictures, f"history-{kind}")

    await page.get_by_text("Show phone and text").first.click()
    await page.get_by_label("Reason").fill("the customer asks")
    await page.get_by_role("button", name="Show phone and text").click()
    await expect(page.get_by_text("+61491570006").first).to_be_visible()

    await page.get_by_role("link", name=FERN).first.click()
    await look(page, pictures, f"organisation-{kind}")
    await page.get_by_role("link", name="Pause", exact=True).click()
    await page.get_by_role("button", name="Pause an organisation").click()  # the browser wants a reason first
    await page.get_by_label("Reason").fill("ticket 12: runaway loop")
    await look(page, pictures, f"pause-{kind}")
    await page.get_by_role("button", name="Pause an organisation").click()
    await expect(page.get_by_role("heading", name="Done")).to_be_visible()
    await page.get_by_role("link", name="Back").click()
    await expect(page.get_by_text("by user_ana: ticket 12: runaway loop")).to_be_visible()

    await page.get_by_role("navigation").get_by_role("link", name="Audit").click()
    row = page.get_by_role("row").filter(has_text="pause organisation")
    await expect(row).to_contain_text("ticket 12: runaway loop")
    await expect(row).to_contain_text("done")
    await look(page, pictures, f"audit-{kind}")

    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


# What the page uses of Clerk's script, with a session whose token the test signed.
CLERK = """
window.Clerk = {
  session: { getToken: async () => TOKEN },
  load: async () => {},
  addListener: () => {},
  unmountSignIn: () => {},
  setActive: async ({ organization }) => { if (organization !== "org_operators") throw new Error(organization); },
};
"""


async def test_operator_signs_in_with_clerks_script(
    browser: Browser,
    serve: Callable[..., str],
    databases: object,  # noqa: F811 (a fixture)
    issuer: Issuer,  # noqa: F811 (a fixture)
) -> None:
    token = mint(Session("user_ana", OPERATORS, "admin", ttl_s=60), issuer)
    context = await browser.new_context()
    page = await context.new_page()
    script = CLERK.replace("TOKEN", json.dumps(token))
    await page.route(
        f"{issuer.name}/npm/**",
        lambda route: route.fulfill(
            body=script, content_type="text/javascript", headers={"Access-Control-Allow-Origin": "*"}
        ),
    )
    await page.goto(f"{serve(CLERK_PUBLISHABLE_KEY='pk_test_Y2xlcmsuZXhhbXBsZS5jb20k')}sign-in")
    await page.get_by_role("button", name="Continue").click()
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    await expect(page.get_by_text("user_ana")).to_be_visible()
    await context.close()
