"""Only operators get in: members of their organisation with their role, by a token of Clerk and then by a cookie."""

import time
from pathlib import Path

import jwt
import pytest

from cooee.errors import WrongSettings
from cooee.page.settings import PageSettings
from cooee.page.sign_in import IDLE_S, Sessions
from tools.token import Issuer

from .conftest import OPERATORS, ORIGIN, SECRET, Browser, OpenBrowser, Sql

PAGES = ("/", "/organisations", "/messages", "/messages/1", "/dead-letters", "/audit", "/actions/republish", "/nonsuch")


async def test_operator_signs_in_sees_pages_and_signs_out(open_browser: OpenBrowser) -> None:
    browser = open_browser()
    answer = await browser.sign_in()
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    for part in ("HttpOnly", "SameSite=strict", f"Max-Age={IDLE_S}", "Path=/"):
        assert part in cookie
    assert "user_ana" in (await browser.get("/")).text
    assert (await browser.get("/sign-in")).headers["location"] == "/"
    assert (await browser.post("/sign-out")).headers["location"] == "/sign-in"
    assert (await browser.get("/")).status_code == 401


@pytest.mark.parametrize(
    ("changes", "status", "sentence"),
    [
        ({"organisation": "org_fern"}, 403, "Only members of the operators&#39; organisation"),
        ({"organisation": ""}, 403, "Only members of the operators&#39; organisation"),
        ({"role": "member"}, 403, "Only members with the role admin"),
        ({"ttl_s": -60}, 401, "The token has expired"),
        ({"version": 1, "role": "member"}, 403, "Only members with the role admin"),
    ],
)
async def test_session_of_another_kind_is_refused(
    open_browser: OpenBrowser, changes: dict[str, object], status: int, sentence: str
) -> None:
    browser = open_browser()
    answer = await browser.sign_in(**changes)
    assert (answer.status_code, answer.headers.get("set-cookie")) == (status, None)
    assert sentence in answer.text
    assert "<h1>Sign in</h1>" in answer.text
    assert (await browser.get("/")).status_code == 401


async def test_token_of_another_key_issuer_or_application_is_refused(
    open_browser: OpenBrowser, issuer: Issuer, tmp_path: Path
) -> None:
    browser = open_browser()
    tokens = (
        browser.mint(Issuer(tmp_path, issuer.name, issuer.party)),
        browser.mint(Issuer(issuer.home, "https://clerk.example.net", issuer.party)),
        browser.mint(Issuer(issuer.home, issuer.name, "https://other.example.com")),
        jwt.encode({"sub": "user_ana"}, "secret-secret-secret-secret-secret-secret", algorithm="HS256"),
        "no-token",
        "x" * 16_000,
    )
    for token in tokens:
        assert (await browser.send_token(token)).status_code == 401
    assert (await browser.post("/sign-in")).status_code == 401


async def test_token_of_this_page_or_of_clerks_cookie_is_accepted(open_browser: OpenBrowser, issuer: Issuer) -> None:
    browser = open_browser()
    assert (await browser.send_token(browser.mint(Issuer(issuer.home, issuer.name, ORIGIN)))).status_code == 303
    browser = open_browser()
    browser.client.cookies.set("__session", browser.mint(version=1))
    assert "Continue with Clerk" in (await browser.get("/sign-in")).text
    assert (await browser.post("/sign-in")).status_code == 303


@pytest.mark.parametrize("path", PAGES)
async def test_nothing_is_shown_without_a_session(open_browser: OpenBrowser, path: str) -> None:
    browser = open_browser()
    answer = await browser.get(path)
    assert (answer.status_code, "<h1>Sign in</h1>" in answer.text, "<nav" in answer.text) == (401, True, False)


async def test_forged_or_old_cookie_is_refused(browser: Browser, open_browser: OpenBrowser) -> None:
    name, value = next(iter(browser.client.cookies.items()))
    body, _, signature = value.partition(".")
    stack_settings = {"operators_organisation": OPERATORS, "operators_secret": SECRET, "clerk_issuer": "https://x"}
    ours = PageSettings(_env_file=None, **stack_settings)
    theirs = PageSettings(_env_file=None, **{**stack_settings, "operators_secret": "x" * 40})
    old = Sessions(ours, lambda: time.time() - IDLE_S - 1)
    forged = (
        f"{body[:-2]}AA.{signature}",
        f"{body}.{signature[:-1]}0" if signature[-1] != "0" else f"{body}.{signature[:-1]}1",
        body,
        "",
        f"{body}.é",
        Sessions(theirs).seal(Sessions(theirs).start("user_ana")),
        old.seal(old.start("user_ana")),
    )
    for cookie in forged:
        client = open_browser().client
        answer = await client.get("/", headers={"Cookie": f"{name}={cookie}".encode()})
        assert answer.status_code == 401, cookie
    answer = await open_browser().client.get("/", headers={"Cookie": f"{name}={value}"})
    assert answer.status_code == 200
    answer = await open_browser(OPERATORS_SECRET="").client.get("/", headers={"Cookie": f"{name}={value}"})
    assert answer.status_code == 401


def test_session_ends_after_its_longest_time_however_often_it_is_renewed() -> None:
    now = [1_000_000.0]
    settings = PageSettings(
        _env_file=None, operators_organisation=OPERATORS, operators_secret=SECRET, clerk_issuer="https://x"
    )
    sessions = Sessions(settings, lambda: now[0])
    session = sessions.start("user_ana")
    for _ in range(5):
        now[0] += IDLE_S - 100
        found = sessions.open(sessions.seal(session))
        if found is None:
            break
        session = sessions.renew(found)
    assert session.ends_at == 1_000_000 + 3600
    assert (now[0], session.expires_at) == (1_000_000 + 5 * (IDLE_S - 100), session.ends_at)


async def test_form_without_its_token_or_of_another_origin_changes_nothing(browser: Browser, sql: Sql) -> None:
    fields = {"organisation": "org_fern", "sender": "Fern", "reason": "ticket 12"}
    forged = [
        await browser.post("/actions/assign-sender-id", form_token="", **fields),
        await browser.post("/actions/assign-sender-id", form_token="0" * 64, **fields),
        await browser.post("/actions/assign-sender-id", form_token="é", **fields),
        await browser.post("/actions/assign-sender-id", origin="https://evil.example.com", **fields),
        await browser.post("/actions/assign-sender-id", origin="null", **fields),
        await browser.post("/actions/assign-sender-id", origin=None, **fields),
        await browser.post("/sign-out", origin="http://127.0.0.1:8080"),
    ]
    assert [answer.status_code for answer in forged] == [403] * 7
    assert all("<h1>Not allowed</h1>" in answer.text for answer in forged)
    assert await sql("delivery", "SELECT * FROM sender_ids") == []
    assert await sql("contacts", "SELECT * FROM operator_actions") == []
    assert (await browser.get("/")).status_code == 200


async def test_token_of_another_session_is_refused(browser: Browser, open_browser: OpenBrowser) -> None:
    other = open_browser()
    await other.sign_in(user="user_ben")
    answer = await browser.post("/actions/republish", form_token=other.token, since="1h", reason="ticket 12")
    assert answer.status_code == 403


async def test_page_is_served_only_under_its_own_address(open_browser: OpenBrowser) -> None:
    assert (await open_browser(origin="http://evil.example.com:8085").get("/sign-in")).status_code == 403
    assert (await open_browser(origin="http://localhost:8085").get("/sign-in")).status_code == 200
    unknown = open_browser(origin="http://evil.example.com:8085")
    assert (await unknown.get("/messages/")).status_code == 403, "a redirect would name this host"
    secure = open_browser(origin="https://ops.example.com", OPERATORS_URL="https://ops.example.com:443")
    answer = await secure.post("/sign-in", origin="https://ops.example.com", token=secure.mint())
    assert answer.headers["set-cookie"].startswith("__Host-cooee_operator=")
    assert "Secure" in answer.headers["set-cookie"]


async def test_pages_have_the_headers_that_protect_a_browser(browser: Browser) -> None:
    for answer in (await browser.get("/"), await browser.get("/nonsuch"), await browser.get("/assets/page.css")):
        policy = answer.headers["content-security-policy"]
        assert "script-src" not in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
    assert "<script" not in (await browser.get("/")).text


async def test_clerks_own_form_is_used_with_a_publishable_key(open_browser: OpenBrowser, issuer: Issuer) -> None:
    browser = open_browser(CLERK_PUBLISHABLE_KEY="pk_test_Y2xlcmsuZXhhbXBsZS5jb20k")
    answer = await browser.get("/sign-in")
    assert f'src="{issuer.name}/npm/@clerk/clerk-js@5/dist/clerk.browser.js"' in answer.text
    assert f"script-src 'self' {issuer.name} " in answer.headers["content-security-policy"]
    assert "'unsafe-inline'" not in answer.headers["content-security-policy"].partition("script-src")[2].split(";")[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPERATORS_ORGANISATION", ""),
        ("OPERATORS_SECRET", "short"),
        ("OPERATORS_URL", "http://ops.example.com"),
        ("OPERATORS_URL", "https://ops.example.com/path"),
        ("OPERATORS_URL", "ops.example.com"),
        ("OPERATORS_URL", "https://ana@ops.example.com"),
        ("CLERK_ISSUER", ""),
    ],
)
def test_page_does_not_start_without_its_settings(open_browser: OpenBrowser, name: str, value: str) -> None:
    with pytest.raises(WrongSettings, match=name) as raised:
        open_browser(**{name: value})
    assert "short" not in str(raised.value)
