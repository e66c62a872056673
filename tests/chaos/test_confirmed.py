"""What was answered is in force, whichever process or broker is frozen: nothing goes out after it."""

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from tests.conftest import Answer, Client
from tools.demo.journey import read_handset
from tools.embedded.supervisor import Stack
from tools.token import Issuer, Session

pytestmark = pytest.mark.stack

SETTINGS = {"THROTTLE_RATE_USER": "100000/min", "THROTTLE_RATE_SMS": "100000/min", "SWEEP_AFTER_S": "8"}
FROZEN = ("contacts worker", "scheduling worker", "delivery worker", "broker")
DUE_IN_S = 8.0  # longer than all requests before it take on a slow machine
Eventually = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Start a stack whose processes a test may freeze."""
    async with Stack(tmp_path_factory.mktemp("confirmed"), SETTINGS, free_ports=True) as stack:
        yield stack


@contextmanager
def frozen(stack: Stack, name: str) -> Iterator[None]:
    """Freeze a process."""
    pid = stack.pid(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def ok(client: Client, method: str, path: str, body: Any = None) -> Answer:
    answer = await client(method, path, body)
    assert answer.status < 300, answer.body
    return answer


class Messages:
    """Scheduled messages to contacts of their own. `phones` are by what is done to them."""

    def __init__(self, client: Client, first: int) -> None:
        self._client = client
        self._next = first
        self.due = datetime.now(UTC) + timedelta(seconds=DUE_IN_S)
        self.phones: dict[str, str] = {}

    async def add_contact(self, name: str) -> int:
        """Add a contact and return its id."""
        self.phones[name] = f"0491{self._next:06d}"
        self._next += 1
        body = {"phone": self.phones[name], "first_name": name}
        return int((await ok(self._client, "POST", "/api/contacts/", body)).body["id"])

    async def schedule(self, **recipient: Any) -> int:
        """Schedule a message and return its id."""
        body = {"text": "Not after the answer", "scheduled_time": self.due.isoformat(), **recipient}
        return int((await ok(self._client, "POST", "/api/schedules/", body)).body["id"])

    async def schedule_batch(self, contact_id: int) -> int:
        """Schedule a batch to a group of one contact and return its id."""
        group = (await ok(self._client, "POST", "/api/groups/", {"name": "One", "member_ids": [contact_id]})).body
        body = {"name": "x", "text": "Not after the answer", "group_id": group["id"]}
        body["scheduled_time"] = self.due.isoformat()
        return int((await ok(self._client, "POST", "/api/group-schedules/", body)).body["id"])


@pytest.mark.parametrize("name", FROZEN)
async def test_nothing_goes_out_after_the_answer(stack: Stack, eventually: Eventually, name: str) -> None:
    issuer = Issuer(stack.home, stack.environment["CLERK_ISSUER"])
    async with aiohttp.ClientSession() as http:
        session = Session("user", f"org_{name.replace(' ', '_')}", "admin")
        client = Client(http, stack.url("gateway"), issuer, session)
        messages = Messages(client, first=100_000 + 1000 * FROZEN.index(name))
        actions = ("opted out", "deleted", "deactivated", "cancelled", "batch", "control")
        contacts = {action: await messages.add_contact(action) for action in actions}
        ids = {action: await messages.schedule(contact_id=contacts[action]) for action in actions if action != "batch"}
        ids["phone alone"] = await messages.schedule(phone=messages.phones["opted out"])
        batch_id = await messages.schedule_batch(contacts["batch"])
        with frozen(stack, name):
            await ok(client, "PATCH", f"/api/contacts/{contacts['opted out']}/", {"opt_out": True})
            await ok(client, "DELETE", f"/api/contacts/{contacts['deleted']}/")
            await ok(client, "PATCH", f"/api/contacts/{contacts['deactivated']}/", {"is_active": False})
            await ok(client, "DELETE", f"/api/schedules/{ids['cancelled']}/")
            await ok(client, "DELETE", f"/api/group-schedules/{batch_id}/")
            assert datetime.now(UTC) < messages.due, "the machine was too slow for this test"

            async def is_due() -> bool:
                return datetime.now(UTC) > messages.due + timedelta(seconds=1)

            await eventually(is_due)

        async def status(action: str) -> str:
            return str((await ok(client, "GET", f"/api/schedules/{ids[action]}/")).body["status"])

        async def all_ended() -> bool:
            return not {await status(action) for action in ids} & {"pending", "processing"}

        await eventually(all_ended, within=60.0)
        assert {action: await status(action) for action in ids} == {
            "opted out": "failed",
            "phone alone": "failed",
            "deleted": "cancelled",
            "deactivated": "cancelled",
            "cancelled": "cancelled",
            "control": "sent",
        }
        received = {message["to"] for message in await read_handset(http, stack.url("handset"))}
        assert {f"+61{phone[1:]}" for phone in messages.phones.values()} & received == {
            f"+61{messages.phones['control'][1:]}"
        }


async def test_a_message_that_is_queued_already_does_not_go_out_after_the_opt_out(
    stack: Stack, eventually: Eventually
) -> None:
    issuer = Issuer(stack.home, stack.environment["CLERK_ISSUER"])
    async with aiohttp.ClientSession() as http:
        client = Client(http, stack.url("gateway"), issuer, Session("user", "org_queued", "admin"))
        messages = Messages(client, first=200_000)
        contact = await messages.add_contact("queued")
        with frozen(stack, "delivery worker"):
            body = {"message": "x", "recipient": messages.phones["queued"], "contact_id": contact}
            sent = (await ok(client, "POST", "/api/sms/send/", body)).body["schedule_id"]
            await ok(client, "PATCH", f"/api/contacts/{contact}/", {"opt_out": True})

        async def failed() -> bool:
            shown = (await ok(client, "GET", f"/api/schedules/{sent}/")).body
            assert shown["status"] != "sent"
            return bool(shown["status"] == "failed")

        await eventually(failed, within=60.0)
        refused = await client("POST", "/api/sms/send/", {"message": "x", "recipient": messages.phones["queued"]})
        assert (refused.status, refused.body["code"]) == (400, "opted_out")
