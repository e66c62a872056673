"""Organisations and providers are paused and resumed by name, once, and each time with an audit."""

import asyncio

import asyncpg
import pytest
from sqlalchemy import make_url

from .conftest import Cooee, Sql

PROVIDER = ("provider", "log")
ORGANISATION = ("organisation", "org_mine")


@pytest.fixture
async def known(sql: Sql) -> None:
    """Add the organisation that is paused."""
    await sql("contacts", "INSERT INTO organisations (organisation_id, name) VALUES ('org_mine', 'Mine')")


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("which", [PROVIDER, ORGANISATION])
async def test_a_pause_begins_once_is_listed_and_ends_once(cooee: Cooee, sql: Sql, which: tuple[str, str]) -> None:
    kind, name = which
    begun = await cooee("pause", *which, "--operator", "ana", reason="ticket 12")
    assert (begun.code, begun.out.startswith(f"{name} is paused: ")) == (0, True)
    again = await cooee("pause", *which, "--operator", "ben", "--json", reason="ticket 13")
    assert (again.code, again.document["is_new"], again.document["operator"]) == (0, False, "ana")
    assert "by ana: ticket 12" in (await cooee("pause", *which)).out
    listed = (await cooee("pauses", "--json")).document["pauses"]
    assert [(one["kind"], one["name"], one["operator"], one["reason"]) for one in listed] == [
        (kind, name, "ana", "ticket 12")
    ]
    assert name in (await cooee("pauses")).out
    ended = await cooee("resume", *which, reason="all is well")
    assert (ended.code, ended.out.startswith(f"{name} is resumed.")) == (0, True)
    missing = await cooee("resume", *which)
    assert (missing.code, missing.err) == (4, f"cooee: {kind} {name} is not paused: see cooee pauses\n")
    assert (await cooee("pauses")).out == "nothing is paused\n"
    rows = await sql("contacts", "SELECT * FROM operator_actions WHERE step = 'end' ORDER BY id")
    assert [(row.action.split()[0], row.outcome) for row in rows] == [
        *(("pause", "done"), ("pause", "done"), ("pause", "done"), ("resume", "done"), ("resume", "refused"))
    ]
    assert {row.organisation_id for row in rows} == {None if kind == "provider" else name}


@pytest.mark.parametrize("which", [("provider", "nonsuch"), ("organisation", "org_nonsuch"), ("organisation", "")])
async def test_what_is_not_known_is_refused_by_name(cooee: Cooee, sql: Sql, which: tuple[str, str]) -> None:
    refused = await cooee("pause", *which)
    assert (refused.code, which[1] in refused.err) == (4, True), refused
    assert await sql("delivery", "SELECT 1 FROM pauses") == []


async def test_the_configured_providers_are_named_when_another_is_paused(cooee: Cooee) -> None:
    refused = await cooee("pause", "provider", "twilio", SMS_PROVIDERS="mobile_message,log", MMS_PROVIDERS="log")
    assert refused.err == "cooee: twilio is not configured: choose one of log, mobile_message\n"


async def test_a_provider_that_is_not_configured_any_more_can_be_resumed(cooee: Cooee) -> None:
    await cooee("pause", *PROVIDER)
    changed = {"SMS_PROVIDERS": "mobile_message", "MMS_PROVIDERS": "twilio"}
    assert (await cooee("resume", *PROVIDER, **changed)).code == 0


async def test_resuming_wakes_the_workers_of_other_processes(cooee: Cooee, urls: dict[str, str]) -> None:
    await cooee("pause", *PROVIDER)
    woken: asyncio.Queue[str] = asyncio.Queue()
    url = make_url(urls["delivery"]).set(username="delivery_all").render_as_string(hide_password=False)
    listener = await asyncpg.connect(url)
    try:
        await listener.add_listener("delivery", lambda *given: woken.put_nowait(given[3]))
        await cooee("resume", *PROVIDER)
        async with asyncio.timeout(20):
            assert set((await woken.get()).split(",")) == {"pauses", "queued", "submissions"}
    finally:
        await listener.close()
