"""From a carrier's receipt and a person's answer to the schedule, the list of messages and the contact's opt-out."""

from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from tools.embedded.supervisor import Stack

pytestmark = pytest.mark.stack

PHONE, AT_HANDSET = "0491571804", "+61491571804"


@pytest.fixture
async def phone(stack: Stack) -> Any:
    """`await phone("POST", "/api/…", body)`: the handset's own interface."""
    async with aiohttp.ClientSession() as http:

        async def ask(method: str, path: str, body: Any = None) -> Any:
            async with http.request(method, stack.url("handset") + path, json=body) as answer:
                assert answer.status < 300, await answer.text()
                return await answer.json() if answer.content_type == "application/json" else None

        yield ask


async def test_a_message_is_delivered_answered_and_stopped(
    client_of: Callable[..., Any], new_organisation: Callable[[], str], phone: Any, eventually: Callable[..., Any]
) -> None:
    call = client_of(new_organisation(), "admin")

    async def get(path: str) -> Any:
        return (await call("GET", path)).body

    async def reply(text: str) -> None:
        await phone("POST", f"/api/phones/{AT_HANDSET}/replies/", {"text": text})

    contact = (await call("POST", "/api/contacts/", {"phone": PHONE, "first_name": "Ana"})).body["id"]
    body = {"message": "Tomorrow at 10?", "recipient": PHONE, "contact_id": contact}
    sent = await call("POST", "/api/sms/send/", body, headers={"Prefer": "wait=20"})
    assert sent.status == 200, sent
    schedule = sent.body["schedule_id"]
    taken = (await phone("GET", f"/api/messages/?to={AT_HANDSET[1:]}"))["messages"][-1]
    await phone("POST", f"/api/messages/{taken['id']}/receipts/", {"status": "delivered"})

    async def is_delivered() -> Any:
        found = await get(f"/api/schedules/{schedule}/")
        return found if found["status"] == "delivered" else None

    assert (await eventually(is_delivered))["delivered_time"]
    await reply("See you then!")

    async def has_replied() -> Any:
        found = (await get(f"/api/contacts/{contact}/messages/"))["results"]
        return found if len(found) == 2 else None

    came, went = await eventually(has_replied)
    assert [(m["direction"], m["text"], m["status"]) for m in (came, went)] == [
        ("inbound", "See you then!", "received"),
        ("outbound", "Tomorrow at 10?", "delivered"),
    ]
    assert {(m["phone"], m["schedule"], m["contact"]) for m in (came, went)} == {(PHONE, schedule, contact)}
    assert (await get(f"/api/messages/?phone={PHONE}&direction=inbound"))["results"] == [came]

    async def is_opted_out() -> Any:
        found = await get(f"/api/contacts/{contact}/")
        return found if found["opt_out"] else None

    async def is_opted_in() -> Any:
        return not (await get(f"/api/contacts/{contact}/"))["opt_out"]

    await reply("Stop")
    stopped = await eventually(is_opted_out)
    (word,) = [m for m in (await get(f"/api/messages/?phone={PHONE}"))["results"] if m["text"] == "Stop"]
    assert (stopped["opt_out_source"], stopped["opt_out_message_id"]) == ("reply", word["id"])
    refused = await call("POST", "/api/sms/send/", body)
    assert (refused.status, refused.body["code"]) == (400, "opted_out")
    await reply("START")
    await eventually(is_opted_in)
    assert (await call("POST", "/api/sms/send/", body)).status == 202
