"""Every provider with receipts, through the whole system: a message is sent, delivered, replied to and opted out.

One stack has all these providers in its chains. Each organisation chooses one with its config.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from delivery.providers import provider_classes
from tests.conftest import SETTINGS, Client
from tools.embedded.supervisor import Stack
from tools.token import Issuer, Session

pytestmark = pytest.mark.stack

CASES = [
    (message_format, provider.name)
    for message_format in ("sms", "mms")
    for provider in provider_classes()
    if provider.sends_receipts and message_format in provider.formats
]
ALL = {
    **{
        f"{message_format.upper()}_PROVIDERS": ",".join(name for used, name in CASES if used == message_format)
        for message_format in ("sms", "mms")
    },
    "HANDSET_RECEIPTS": "on",
}


@pytest.fixture(scope="module")
async def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Start a stack with all providers and automatic receipts."""
    async with Stack(tmp_path_factory.mktemp("rehearsal"), SETTINGS | ALL, free_ports=True) as running:
        yield running


@pytest.fixture(scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """Open an HTTP session."""
    async with aiohttp.ClientSession() as session:
        yield session


async def until(find: Callable[[], Awaitable[Any]], timeout_s: float = 60.0) -> Any:
    """Poll until the function returns something truthy, and return it. Fails after the time-out."""
    deadline = time.monotonic() + timeout_s
    while not (found := await find()):
        assert time.monotonic() < deadline, f"{find.__name__} found nothing within {timeout_s} s"
        await asyncio.sleep(0.1)
    return found


@pytest.mark.parametrize(
    ("message_format", "provider", "phone"),
    [(*case, f"0453{number:06d}") for number, case in enumerate(CASES, start=1)],
)
async def test_message_is_delivered_replied_to_and_opted_out(
    rehearsal: Stack, http: aiohttp.ClientSession, message_format: str, provider: str, phone: str
) -> None:
    issuer = Issuer(rehearsal.home, rehearsal.environment["CLERK_ISSUER"])
    session = Session("user_1", f"org_{secrets.token_hex(6)}", "admin")
    call = Client(http, rehearsal.url("gateway"), issuer, session)
    at_handset = "+61" + phone[1:]
    chosen = await call("POST", "/api/configs/", {"name": f"{message_format}_providers", "value": provider})
    assert chosen.status == 201, chosen
    contact = (await call("POST", "/api/contacts/", {"phone": phone, "first_name": "Ana"})).body["id"]
    body = {"message": "Tomorrow at 10?", "recipient": phone, "contact_id": contact}
    path = "/api/sms/send/"
    if message_format == "mms":
        path = "/api/sms/send-mms/"
        body |= {"subject": "Map", "media_url": "https://media.example.com/a.png"}

    async def is_sent_by_the_chosen_provider() -> bool:
        """Send a message. A config takes effect within a second, so the first one may use another provider."""
        sent = await call("POST", path, body, headers={"Prefer": "wait=20"})
        assert sent.status == 200, sent

        async def is_delivered() -> Any:
            found = (await call("GET", f"/api/schedules/{sent.body['schedule_id']}/")).body
            return found if found["status"] == "delivered" else None

        return bool((await until(is_delivered))["provider"] == provider)

    await until(is_sent_by_the_chosen_provider)

    async def reply(text: str) -> None:
        url = f"{rehearsal.url('handset')}/api/phones/{at_handset}/replies/"
        async with http.post(url, json={"text": text}) as answer:
            assert answer.status == 201, await answer.text()

    await reply("See you then!")

    async def inbound_messages() -> Any:
        page = (await call("GET", f"/api/contacts/{contact}/messages/")).body
        return [m for m in page["results"] if m["direction"] == "inbound"]

    assert [(m["text"], m["phone"]) for m in await until(inbound_messages)] == [("See you then!", phone)]
    await reply("STOP")

    async def is_opted_out() -> Any:
        return (await call("GET", f"/api/contacts/{contact}/")).body["opt_out"]

    await until(is_opted_out)
