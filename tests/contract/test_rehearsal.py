"""Every vendor rehearsed through the whole system: sent, delivered, answered, stopped, by its own wire format.

One stack has all four in its lists; each organisation chooses one by its config.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.conftest import SETTINGS, Client
from tools.embedded.supervisor import Stack
from tools.token import Issuer, Session

pytestmark = pytest.mark.stack

ALL = {
    "SMS_PROVIDERS": "mobile_message,messagemedia,twilio,aws",
    "MMS_PROVIDERS": "messagemedia,twilio",
    "HANDSET_RECEIPTS": "on",
}


@pytest.fixture(scope="module")
async def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with Stack(tmp_path_factory.mktemp("rehearsal"), SETTINGS | ALL, free_ports=True) as running:
        yield running


@pytest.fixture(scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def until(found: Callable[[], Awaitable[Any]], deadline_s: float = 60.0) -> Any:
    """What it finds, once that is something."""
    deadline = time.monotonic() + deadline_s
    while not (thing := await found()):
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.1)
    return thing


@pytest.mark.parametrize(
    ("message_format", "provider", "phone"),
    [
        ("sms", "mobile_message", "0453000001"),
        ("sms", "messagemedia", "0453000002"),
        ("sms", "twilio", "0453000003"),
        ("sms", "aws", "0453000004"),
        ("mms", "messagemedia", "0453000005"),
        ("mms", "twilio", "0453000006"),
    ],
)
async def test_a_message_goes_there_and_its_answer_comes_back(
    rehearsed: Stack, http: aiohttp.ClientSession, message_format: str, provider: str, phone: str
) -> None:
    issuer = Issuer(rehearsed.home, rehearsed.environment["CLERK_ISSUER"])
    session = Session("user_1", f"org_{secrets.token_hex(6)}", "admin")
    call = Client(http, rehearsed.url("gateway"), issuer, session)
    at_handset = "+61" + phone[1:]
    chosen = await call("POST", "/api/configs/", {"name": f"{message_format}_providers", "value": provider})
    assert chosen.status == 201, chosen
    contact = (await call("POST", "/api/contacts/", {"phone": phone, "first_name": "Ana"})).body["id"]
    body = {"message": "Tomorrow at 10?", "recipient": phone, "contact_id": contact}
    path = "/api/sms/send/"
    if message_format == "mms":
        path = "/api/sms/send-mms/"
        body |= {"subject": "Map", "media_url": "https://media.example.com/a.png"}

    async def goes_there() -> bool:
        """The choice counts within a second, so that the first may still take the old way."""
        sent = await call("POST", path, body, headers={"Prefer": "wait=20"})
        assert sent.status == 200, sent

        async def is_delivered() -> Any:
            found = (await call("GET", f"/api/schedules/{sent.body['schedule_id']}/")).body
            return found if found["status"] == "delivered" else None

        return bool((await until(is_delivered))["provider"] == provider)

    await until(goes_there)

    async def reply(text: str) -> None:
        url = f"{rehearsed.url('handset')}/api/phones/{at_handset}/replies/"
        async with http.post(url, json={"text": text}) as answer:
            assert answer.status == 201, await answer.text()

    await reply("See you then!")

    async def has_replied() -> Any:
        page = (await call("GET", f"/api/contacts/{contact}/messages/")).body
        return [m for m in page["results"] if m["direction"] == "inbound"]

    assert [(m["text"], m["phone"]) for m in await until(has_replied)] == [("See you then!", phone)]
    await reply("STOP")

    async def is_opted_out() -> Any:
        return (await call("GET", f"/api/contacts/{contact}/")).body["opt_out"]

    await until(is_opted_out)
