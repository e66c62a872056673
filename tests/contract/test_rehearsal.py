"""Every provider with receipts, through the whole system: a message is sent, delivered, replied to and opted out.

The last test follows one message by its trace, and looks for private values in the spans of all tests.

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
from tests.otlp import Collector, parentless, run_collector
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
async def collector() -> AsyncIterator[Collector]:
    """Run a collector of traces."""
    async with run_collector() as running:
        yield running


@pytest.fixture(scope="module")
async def rehearsal(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> AsyncIterator[Stack]:
    """Start a stack with all providers, automatic receipts and traces."""
    traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    async with Stack(tmp_path_factory.mktemp("rehearsal"), SETTINGS | ALL | traces, free_ports=True) as running:
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


async def test_trace_goes_from_the_gateway_to_the_applied_receipt(
    rehearsal: Stack, collector: Collector, http: aiohttp.ClientSession
) -> None:
    organisation, phone, text = f"org_{secrets.token_hex(6)}", "0453000999", "Zebra crossing ahead"
    session = Session("user_1", organisation, "admin")
    call = Client(
        http, rehearsal.url("gateway"), Issuer(rehearsal.home, rehearsal.environment["CLERK_ISSUER"]), session
    )
    foreign = "0af7651916cd43dd8448eb211c80319c"  # a client must not choose which requests are traced
    headers = {"traceparent": f"00-{foreign}-b7ad6b7169203331-01"}
    sent = await call("POST", "/api/sms/send/", {"message": text, "recipient": phone}, headers=headers)
    assert sent.status == 202, sent
    way = {
        "gateway api POST /api/sms/send/",
        "gateway api POST scheduling",
        "scheduling api POST /api/sms/send/",
        "scheduling api POST delivery",
        "delivery api POST /internal/reservations/",
        "scheduling worker send scheduling.schedule-due.v1",
        "delivery worker process scheduling.schedule-due.v1",
        f"delivery worker submit {CASES[0][1]}",
        "delivery worker apply receipt",
        "delivery worker send delivery.message-delivered.v1",
    }

    async def whole_trace() -> Any:
        roots = [span for span in collector.spans if foreign in {linked.hex() for linked in span.linked_traces}]
        found = collector.trace(roots[0].trace_id) if roots else []
        names = {f"{span.process} {span.name}" for span in found}
        is_applied = any("message-delivered" in name for name in names if "scheduling worker process" in name)
        return found if way <= names and is_applied and len(parentless(found)) == 1 else None

    trace = await until(whole_trace)
    (root,) = parentless(trace)
    assert (root.process, root.name, root.parent_id) == ("gateway api", "POST /api/sms/send/", b"")
    assert root.trace_id.hex() != foreign
    assert root.attributes["organisation_id"] == organisation
    assert any(span.attributes.get("db.system") for span in trace)

    async def linked_webhook() -> bool:
        receipts = [span for span in trace if span.name == "apply receipt"]
        linked = [span.name for one in receipts for trace_id in one.linked_traces for span in collector.trace(trace_id)]
        return "POST /api/webhooks/providers/{provider}/{kind}/" in linked

    await until(linked_webhook)

    exported = b"".join(collector.bodies)
    for private in ("53000", "Zebra", "Tomorrow at", "See you", "Ana", "eyJ", "Bearer", "media.example.com"):
        assert private.encode() not in exported, private
