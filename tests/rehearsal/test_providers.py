"""Each real provider in the whole system, with the handset in the vendor's place: sent, receipts, a reply, STOP.

Every organisation names its own provider, so that one stack rehearses all.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from tests.conftest import SETTINGS, Client
from tools.embedded.supervisor import Stack
from tools.token import Issuer, Session

pytestmark = pytest.mark.stack

PROVIDERS = ("mobile_message", "messagemedia", "twilio", "aws")
DELIVERED, FAILED, FORGED, EARLY, OUT_OF_ORDER, UNDELIVERED = (
    *("0491570006", "0491570157", "0491579212", "0491577426", "0491578148", "0491573087"),
)
PATIENCE_S = 60


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    settings = {**SETTINGS, "SMS_PROVIDERS": ",".join(PROVIDERS), "HANDSET_RECEIPTS": "on"}
    async with Stack(tmp_path_factory.mktemp("rehearsal"), settings, free_ports=True) as running:
        yield running


@pytest.fixture(scope="module")
async def client_of(stack: Stack) -> AsyncIterator[Callable[[str], Client]]:
    async with aiohttp.ClientSession() as http:
        issuer = Issuer(stack.home, stack.environment["CLERK_ISSUER"])

        def make(organisation: str) -> Client:
            return Client(http, stack.url("gateway"), issuer, Session("user", organisation, "admin"))

        yield make


async def until(client: Client, path: str, holds: Callable[[Any], object]) -> Any:
    """Ask until it holds. Raises AssertionError when it does not in time."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds(found := (await client("GET", path)).body):
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)
    return found


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_sent_told_and_stopped(stack: Stack, client_of: Callable[[str], Client], provider: str) -> None:
    client = client_of(f"org_{provider}")
    made = await client("POST", "/api/configs/", json={"name": "sms_providers", "value": provider})
    assert made.status == 201, made.body
    expected = {
        DELIVERED: "delivered",
        EARLY: "delivered",
        OUT_OF_ORDER: "delivered",
        UNDELIVERED: "failed",
        FAILED: "failed",
        FORGED: "sent",
    }
    for phone in expected:
        sent = await client("POST", "/api/sms/send/", json={"message": f"Hello {phone}", "recipient": phone})
        assert sent.status == 202, sent.body

    def statuses(found: Any) -> dict[str, str]:
        return {entry["phone"]: entry["status"] for entry in found["results"]}

    await until(client, "/api/messages/?direction=outbound", lambda found: statuses(found) == expected)
    handset = stack.url("handset")
    async with client.http.get(f"{handset}/api/messages/?to=%2B61491570006&limit=1000") as answer:
        arrived = [entry for entry in (await answer.json())["messages"] if entry["provider"] == provider]
    assert [entry["text"] for entry in arrived] == [f"Hello {DELIVERED}"]
    contact = (
        await client("POST", "/api/contacts/", json={"first_name": "A", "last_name": "B", "phone": DELIVERED})
    ).body
    for text in ("Thanks", "STOP"):
        url = f"{handset}/api/phones/%2B61491570006/replies/"
        async with client.http.post(url, json={"text": text}) as answer:
            assert (await answer.json())["provider"] == provider

    def texts(found: Any) -> set[str]:
        return {entry["text"] for entry in found["results"]}  # MessageMedia tells an opt-out in two ways

    await until(client, "/api/messages/?direction=inbound", lambda found: texts(found) == {"Thanks", "STOP"})
    await until(client, f"/api/contacts/{contact['id']}/", lambda found: found["opt_out"])
