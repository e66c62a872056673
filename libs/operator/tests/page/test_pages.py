"""Every page shows what the services have of two organisations, escaped and with masked phones."""

import pytest

from .conftest import FERN, HOSTILE, MASKED, PHONE, REED, Browser, OpenBrowser, Sql, World


async def open_page(browser: Browser, path: str) -> str:
    """Open a page, check what holds for all of them, and return its text."""
    answer = await browser.get(path)
    assert answer.status_code == 200, answer.text
    assert HOSTILE not in answer.text, "HTML of a name, a text or an error"
    for phone in (PHONE, "0491570006", "491570006"):
        assert phone not in answer.text
    return answer.text


async def test_overview_shows_each_part_even_when_the_gateway_is_away(browser: Browser, world: World) -> None:
    page = await open_page(browser, "/")
    for expected in (
        "the gateway at http://127.0.0.1:9 does not answer",
        "queued messages",
        "1 not acknowledged",
        "of them 1 that say STOP",
        "No operator has done anything yet.",
    ):
        assert expected in page, expected


async def test_organisations_are_listed_page_by_page(browser: Browser, sql: Sql, world: World) -> None:
    page = await open_page(browser, "/organisations")
    for expected in (f'href="/organisations/{FERN}"', "Reed Dental"):
        assert expected in page
    assert 'rel="next"' not in page
    await sql(
        "contacts",
        "INSERT INTO organisations (organisation_id, name, slug)"
        " SELECT 'org_a' || lpad(CAST(n AS text), 2, '0'), '', '' FROM generate_series(1, 49) n",
    )
    page = await open_page(browser, "/organisations")
    assert f'href="/organisations?after={FERN}"' in page
    assert "Reed Dental" not in page
    page = await open_page(browser, f"/organisations?after={FERN}")
    assert "Reed Dental" in page
    assert "org_a01" not in page


async def test_organisation_shows_what_it_has_and_nothing_of_another(browser: Browser, world: World) -> None:
    page = await open_page(browser, f"/organisations/{FERN}")
    for expected in ("Fern &lt;script&gt;", "sms 100", "2026-11", ">41<", "sms_limit", "fernclinic", "ana@example.com"):
        assert expected in page, expected
    assert "7777" not in page
    other = await open_page(browser, f"/organisations/{REED}")
    assert "Reed Dental" in other
    assert "7777" in other
    for hidden in ("fernclinic", f"user_of_{FERN}"):
        assert hidden not in other
    assert (await browser.get("/organisations/org_nonsuch")).status_code == 404
    assert (await browser.get(f"/organisation?id={FERN}")).headers["location"] == f"/organisations/{FERN}"
    assert (await browser.get("/organisation?id=../x")).headers["location"] == "/organisations/..%2Fx"


async def test_message_is_found_by_organisation_provider_and_id(browser: Browser, world: World) -> None:
    assert "<table>" not in await open_page(browser, "/messages")
    for query in (f"organisation={FERN}", "provider-id=sm00123", f"organisation={FERN}&provider-id=SM00123"):
        page = await open_page(browser, f"/messages?{query}")
        assert f'href="/messages/{world.message}"' in page
        assert MASKED in page
        assert REED not in page
    assert "No message was found." in await open_page(browser, f"/messages?organisation={REED}&provider-id=SM00123")
    opened = await browser.get(f"/message?kind=schedules&id={world.schedule}")
    assert opened.headers["location"] == f"/schedules/{world.schedule}"


async def test_history_of_a_message_is_shown_by_either_id(browser: Browser, world: World) -> None:
    for path in (f"/messages/{world.message}", f"/schedules/{world.schedule}"):
        page = await open_page(browser, path)
        for expected in (f"Schedule {world.schedule}", f"Message {world.message}", "SM00123", MASKED, "delivered"):
            assert expected in page, expected
    assert (await browser.get("/messages/999999")).status_code == 404


async def test_dead_letters_are_shown_without_their_bodies(browser: Browser, world: World) -> None:
    path = f"/dead-letters/scheduling/{world.dead_letter}"
    assert f'href="{path}"' in await open_page(browser, "/dead-letters")
    page = await open_page(browser, path)
    for expected in ("delivery.message-sent.v1", "k7", "version: &lt;script&gt;"):
        assert expected in page
    assert (await browser.get("/dead-letters/scheduling/999")).status_code == 404
    assert (await browser.get("/dead-letters/gateway/1")).status_code == 400


async def test_what_waits_because_of_a_pause_is_listed_after_what_is_stuck(browser: Browser, world: World) -> None:
    assert "Waiting because of a pause" not in await open_page(browser, "/stuck")
    await browser.post("/actions/pause-organisation", reason="ticket 12: runaway", organisation=REED)
    page = await open_page(browser, "/stuck")
    stuck, _, waiting = page.partition("Waiting because of a pause")
    assert "queued messages" not in stuck
    for expected in ("1 queued messages", f'href="/organisations/{REED}"', "ticket 12: runaway"):
        assert expected in waiting, expected


async def test_stuck_and_inbound_messages_are_listed(browser: Browser, world: World) -> None:
    page = await open_page(browser, "/stuck?minutes=10")
    assert REED in page
    assert "no provider worker has claimed them" in page
    assert "queued messages" not in await open_page(browser, "/stuck?minutes=120")
    page = await open_page(browser, "/inbound")
    assert MASKED in page
    assert "nobody" in page


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/stuck?minutes=soon", 400),
        ("/stuck?minutes=1&minutes=2", 400),
        ("/messages?organisation=" + "x" * 501, 400),
        ("/messages?organisation=%00", 400),
        ("/messages?organisation=x&before=0", 400),
        ("/messages?organisation=--show-phones", 200),
        ("/messages/99999999999999999999", 404),
        ("/messages/9999999999999999999", 400),
        ("/messages/" + "9" * 5000, 404),
        (f"/organisations/{FERN}?page=368934881474191033", 400),
        ("/messages/--show-phones", 404),
        ("/message?id=--ask", 400),
        ("/message?id=1&kind=//evil.example.com", 400),
        ("/organisations/--page=2", 404),
        (f"/organisations/{FERN}?page=0", 400),
        ("/actions/nonsuch", 404),
        ("/audit?before=x", 400),
        ("/nonsuch", 404),
        ("/sign-out", 405),
    ],
)
async def test_wrong_address_is_explained(browser: Browser, path: str, status: int) -> None:
    answer = await browser.get(path)
    assert answer.status_code == status, answer.text
    assert "<h1>" in answer.text


async def test_database_that_is_away_is_explained_without_its_password(open_browser: OpenBrowser) -> None:
    browser = open_browser(SCHEDULING_DATABASE_URL="postgresql://s:secret-word@127.0.0.1:9/c")
    await browser.sign_in()
    answer = await browser.get("/stuck")
    assert (answer.status_code, "<h1>Not available</h1>" in answer.text) == (503, True)
    assert "secret-word" not in answer.text
    assert (await browser.get("/")).status_code == 200
