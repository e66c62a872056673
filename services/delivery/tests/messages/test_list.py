"""The lists of messages: both directions, the newest first, only those of the organisation."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from services.delivery.tests.messages.conftest import Contacts

Get = Callable[..., Awaitable[Any]]
Add = Callable[..., Awaitable[int]]
SetConfig = Callable[[str, str], Awaitable[None]]
Execute = Callable[..., Awaitable[None]]
NOON = datetime(2026, 4, 4, 12, tzinfo=UTC)
OTHER_PHONE = "+61453000002"


def ids(answer: Any) -> list[int]:
    return [row["id"] for row in answer["results"]]


async def test_both_directions_are_listed_together_the_newest_first(get: Get, add: Add) -> None:
    plain = {"format": "sms", "subject": None, "media_urls": [], "parts": 1, "provider": "log"}
    plain |= {"failure_category": None, "error": None}
    sent = await add(
        "outbound", time=NOON, schedule_id=17, contact_id=5, status="delivered", text="Ana?", provider="log"
    )
    inbound = await add("inbound", time=NOON + timedelta(minutes=1), schedule_id=17, contact_id=5, text="Yes!\nWhy?")
    auto_reply = await add("outbound", time=NOON + timedelta(minutes=2), auto_reply_to=inbound, text="Reply STOP")
    answer = await get("/api/messages/")
    assert answer["results"][1:] == [
        {
            "id": inbound,
            "direction": "inbound",
            "text": "Yes!\nWhy?",
            "phone": "0453000001",
            "time": "2026-04-04T12:01:00.000Z",
            "status": "received",
            "schedule": 17,
            "contact": 5,
            **plain,
        },
        {
            "id": sent,
            "direction": "outbound",
            "text": "Ana?",
            "phone": "0453000001",
            "time": "2026-04-04T12:00:00.000Z",
            "status": "delivered",
            "schedule": 17,
            "contact": 5,
            **plain,
        },
    ]
    assert answer["results"][0] | {"time": ""} == {
        "id": auto_reply,
        "direction": "outbound",
        "text": "Reply STOP",
        "phone": "0453000001",
        "time": "",
        "status": "sent",
        "schedule": None,
        "contact": None,
        **plain,
        "provider": None,
    }


async def test_a_message_shows_its_content_and_its_failure(get: Get, add: Add) -> None:
    url = "https://example.com/cat.png"
    failure = {"failure_category": "invalid_number", "error": "Not a number."}
    await add("outbound", time=NOON, schedule_id=1, text="", format="mms", subject="Cat", media_url=url)
    await add("outbound", time=NOON, schedule_id=2, text="x" * 307, parts=3, status="failed", provider="aws", **failure)
    mms, sms = [row for row in (await get("/api/messages/"))["results"] if row["direction"] == "outbound"][::-1]
    assert (mms["format"], mms["subject"], mms["media_urls"], mms["parts"], mms["provider"]) == (
        "mms",
        "Cat",
        [url],
        1,
        None,
    )
    assert (sms["format"], sms["subject"], sms["media_urls"], sms["parts"], sms["provider"]) == (
        "sms",
        None,
        [],
        3,
        "aws",
    )
    assert {name: sms[name] for name in failure} == failure


async def test_a_reply_shows_its_pictures_and_parts(get: Get, add: Add) -> None:
    urls = ["https://example.com/1.jpg", "https://example.com/2.jpg"]
    await add("inbound", time=NOON, text="", media_urls=urls, provider="twilio")
    await add("inbound", time=NOON + timedelta(minutes=1), text="é" * 161)
    await add("inbound", time=NOON + timedelta(minutes=2), text="ж" * 71)
    found = (await get("/api/messages/"))["results"]
    assert [(row["format"], row["media_urls"], row["parts"]) for row in found] == [
        ("sms", [], 2),
        ("sms", [], 2),
        ("mms", urls, 1),
    ]
    assert (found[-1]["text"], found[-1]["provider"]) == ("", "twilio")


async def test_pages_have_every_message_once_and_a_page_past_the_end_is_empty(get: Get, add: Add) -> None:
    made = []
    for n in range(7):
        direction = "outbound" if n % 2 else "inbound"
        made.append(await add(direction, time=NOON + timedelta(seconds=n // 2), schedule_id=n or None))
    pages = [await get(f"/api/messages/?limit=3&page={page}") for page in (1, 2, 3, 4)]
    assert [number for page in pages for number in ids(page)] == made[::-1]
    assert [page["pagination"]["total"] for page in pages] == [7] * 4
    assert pages[1]["pagination"] == {
        "total": 7,
        "page": 2,
        "limit": 3,
        "totalPages": 3,
        "hasNext": True,
        "hasPrev": True,
    }
    assert (await get(f"/api/messages/?page={10**14}"))["results"] == []


async def test_filters_select_messages(get: Get, add: Add) -> None:
    public = {
        "queued": "processing",
        "sending": "processing",
        "retry_wait": "processing",
        "unknown": "processing",
        "sent": "sent",
        "delivered": "delivered",
        "failed": "failed",
    }
    made = {state: await add("outbound", status=state, schedule_id=n) for n, state in enumerate(public, start=1)}
    other = await add("inbound", phone=OTHER_PHONE)
    for status in ("processing", "sent", "delivered", "failed"):
        answer = await get(f"/api/messages/?status={status}")
        assert {row["status"] for row in answer["results"]} == {status}
        assert sorted(ids(answer)) == sorted(made[state] for state in public if public[state] == status)
        assert answer["pagination"]["total"] == len(answer["results"])
    assert len(ids(await get("/api/messages/?status=sent,received,%20failed"))) == 3
    assert ids(await get("/api/messages/?status=received")) == [other]
    assert ids(await get("/api/messages/?direction=inbound")) == [other]
    assert len(ids(await get("/api/messages/?direction=outbound&status="))) == len(public)
    assert (await get("/api/messages/?direction=inbound&status=sent"))["pagination"]["total"] == 0
    for spelling in ("0453 000 002", "%2B61453000002", "61453000002", "(04) 5300 0002"):
        assert ids(await get(f"/api/messages/?phone={spelling}")) == [other]


async def test_totals_follow_every_change(get: Get, add: Add, execute: Execute, organisation: str) -> None:
    async def totals() -> list[int]:
        queries = ("", "?status=processing", "?status=sent", "?status=failed,received", "?direction=inbound")
        return [(await get(f"/api/messages/{query}"))["pagination"]["total"] for query in queries]

    ids_added = [await add("outbound", status="queued", schedule_id=number) for number in range(1, 6)]
    reply = await add("inbound", phone=OTHER_PHONE)
    assert await totals() == [6, 5, 0, 1, 1]
    of = f"WHERE organisation_id = '{organisation}'"
    await execute(f"UPDATE messages SET status = 'sending' {of}")
    assert await totals() == [6, 5, 0, 1, 1]
    await execute(f"UPDATE messages SET status = CASE WHEN id = {ids_added[0]} THEN 'failed' ELSE 'sent' END {of}")
    assert await totals() == [6, 0, 4, 2, 1]
    await execute(f"DELETE FROM messages WHERE id IN ({ids_added[1]}, {ids_added[2]})")
    await execute(f"DELETE FROM inbound_messages WHERE id = {reply}")
    assert await totals() == [3, 0, 2, 1, 0]


async def test_days_are_inclusive_and_in_the_organisations_time_zone(get: Get, add: Add, set_config: SetConfig) -> None:
    # The night in which Adelaide's clocks go back: the day has 25 hours.
    moments = ["2026-04-04T13:29:59", "2026-04-04T13:30:00", "2026-04-05T14:29:59", "2026-04-05T14:30:00"]
    made = [await add("inbound", time=datetime.fromisoformat(moment + "+00:00")) for moment in moments]
    assert ids(await get("/api/messages/?date_from=2026-04-05&date_to=2026-04-05")) == [made[2], made[1]]
    assert ids(await get("/api/messages/?date_from=2026-04-06")) == [made[3]]
    assert ids(await get("/api/messages/?date_to=2026-04-04")) == [made[0]]
    await set_config("timezone", "UTC")
    assert ids(await get("/api/messages/?date_from=2026-04-05")) == [made[3], made[2]]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("phone=12", "phone"),
        ("phone=0212345678", "phone"),
        ("phone=%00", "phone"),
        ("status=lost", "status"),
        ("status=sent,queued", "status"),
        ("direction=up", "direction"),
        ("date_from=yesterday", "date_from"),
        ("date_to=2026-02-30", "date_to"),
        ("date_to=9999-12-31", "date_to"),
        ("date_from=0001-01-01", "date_from"),
        ("page=0", "page"),
        ("limit=x", "limit"),
    ],
)
async def test_an_invalid_filter_answers_400_under_its_name(get: Get, query: str, field: str) -> None:
    assert next(iter(await get(f"/api/messages/?{query}", status=400))) == field


async def test_lists_have_only_messages_of_the_organisation(
    get: Get, add: Add, contacts: Contacts, organisation: str
) -> None:
    mine = [await add("outbound", contact_id=5), await add("inbound", contact_id=5)]
    theirs = [await add(d, organisation_id="org_theirs", contact_id=5) for d in ("outbound", "inbound")]
    contacts.phones |= {(organisation, 5): "+61453000001", ("org_theirs", 6): "+61453000001"}
    assert sorted(ids(await get("/api/messages/"))) == mine
    assert sorted(ids(await get("/api/messages/", "org_theirs"))) == theirs
    assert sorted(ids(await get("/api/contacts/5/messages/"))) == mine
    assert sorted(ids(await get("/api/contacts/6/messages/", "org_theirs"))) == theirs
    for unknown in ("6", "999", "0", str(10**30)):
        assert (await get(f"/api/contacts/{unknown}/messages/", status=404))["code"] == "not_found"


async def test_a_contact_has_its_messages_and_those_of_its_phone_once_each(
    get: Get, add: Add, contacts: Contacts, organisation: str
) -> None:
    contacts.phones[organisation, 5] = OTHER_PHONE
    made = [
        await add("outbound", contact_id=5, phone="+61453000009", time=NOON),
        await add("outbound", contact_id=5, phone=OTHER_PHONE, time=NOON + timedelta(seconds=1), schedule_id=2),
        await add("outbound", contact_id=8, phone=OTHER_PHONE, time=NOON + timedelta(seconds=2), schedule_id=3),
        await add("inbound", phone=OTHER_PHONE, time=NOON + timedelta(seconds=3)),
        await add("inbound", contact_id=5, phone="+61453000009", time=NOON + timedelta(seconds=4)),
    ]
    await add("outbound", contact_id=8, schedule_id=4)
    answer = await get("/api/contacts/5/messages/?limit=4")
    assert ids(answer) == made[:0:-1]
    assert answer["pagination"]["total"] == 5


async def test_while_contacts_is_unavailable_the_list_answers_503(get: Get, contacts: Contacts) -> None:
    contacts.is_unavailable = True
    assert (await get("/api/contacts/5/messages/", status=503))["code"] == "unavailable"


async def test_a_closed_organisation_answers_403(get: Get, execute: Execute, organisation: str) -> None:
    await execute("INSERT INTO organisations VALUES (:o, true, 1)", o=organisation)
    assert (await get("/api/messages/", status=403))["code"] == "permission_denied"


async def test_without_a_token_the_lists_answer_401(client: httpx.AsyncClient) -> None:
    for path in ("/api/messages/", "/api/contacts/5/messages/"):
        assert (await client.get(path)).status_code == 401
