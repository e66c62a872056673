"""A delivery receipt and replies reach the schedule, the list of messages and the contact's opt-out."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.conftest import ClientOf
from tools.embedded.supervisor import Stack

pytestmark = pytest.mark.stack

PHONE, AT_HANDSET = "0491571804", "+61491571804"


@pytest.fixture
async def handset(stack: Stack) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """`await handset("POST", "/api/…", body)` calls the handset's own API."""
    async with aiohttp.ClientSession() as http:

        async def call(method: str, path: str, body: Any = None) -> Any:
            async with http.request(method, stack.url("handset") + path, json=body) as answer:
                assert answer.status < 300, await answer.text()
                return await answer.json() if answer.content_type == "application/json" else None

        yield call


async def test_message_is_delivered_replied_to_and_opted_out(
    client_of: ClientOf,
    new_organisation: Callable[[], str],
    handset: Callable[..., Awaitable[Any]],
    eventually: Callable[..., Any],
) -> None:
    call = client_of(new_organisation(), "admin")

    async def get(path: str) -> Any:
        return (await call("GET", path)).body

    async def reply(text: str) -> None:
        await handset("POST", f"/api/phones/{AT_HANDSET}/replies/", {"text": text})

    contact = (await call("POST", "/api/contacts/", {"phone": PHONE, "first_name": "Ana"})).body["id"]
    body = {"message": "Tomorrow at 10?", "recipient": PHONE, "contact_id": contact}
    sent = await call("POST", "/api/sms/send/", body, headers={"Prefer": "wait=20"})
    assert sent.status == 200, sent
    schedule = sent.body["schedule_id"]
    arrived = (await handset("GET", f"/api/messages/?to={AT_HANDSET[1:]}"))["messages"][-1]
    await handset("POST", f"/api/messages/{arrived['id']}/receipts/", {"status": "delivered"})

    async def is_delivered() -> Any:
        found = await get(f"/api/schedules/{schedule}/")
        return found if found["status"] == "delivered" else None

    assert (await eventually(is_delivered))["delivered_time"]
    await reply("See you then!")

    async def both_messages() -> Any:
        found = (await get(f"/api/contacts/{contact}/messages/"))["results"]
        return found if len(found) == 2 else None

    inbound, outbound = await eventually(both_messages)
    assert [(m["direction"], m["text"], m["status"]) for m in (inbound, outbound)] == [
        ("inbound", "See you then!", "received"),
        ("outbound", "Tomorrow at 10?", "delivered"),
    ]
    assert {(m["phone"], m["schedule"], m["contact"]) for m in (inbound, outbound)} == {(PHONE, schedule, contact)}
    assert (await get(f"/api/messages/?phone={PHONE}&direction=inbound"))["results"] == [inbound]

    async def is_opted_out() -> Any:
        found = await get(f"/api/contacts/{contact}/")
        return found if found["opt_out"] else None

    async def is_opted_in() -> Any:
        return not (await get(f"/api/contacts/{contact}/"))["opt_out"]

    await reply("Stop")
    opted_out = await eventually(is_opted_out)
    (keyword,) = [m for m in (await get(f"/api/messages/?phone={PHONE}"))["results"] if m["text"] == "Stop"]
    assert (opted_out["opt_out_source"], opted_out["opt_out_message_id"]) == ("reply", keyword["id"])
    refused = await call("POST", "/api/sms/send/", body)
    assert (refused.status, refused.body["code"]) == (400, "opted_out")
    await reply("START")
    await eventually(is_opted_in)

    async def is_accepted() -> bool:
        """Send again. Delivery opts the contact in when the event of contacts arrives."""
        return bool((await call("POST", "/api/sms/send/", body)).status == 202)

    await eventually(is_accepted)
