"""The operator assigns a number to an organisation, which then sends from it and gets its inbound messages."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.conftest import Client, ClientOf
from tools.embedded.supervised import REPOSITORY
from tools.embedded.supervisor import Stack

pytestmark = pytest.mark.stack

NUMBER, E164 = "0491570158", "+61491570158"
PHONE, OTHER_PHONE = "0491572549", "+61491572665"


@pytest.fixture
def operator(stack: Stack) -> Callable[..., Awaitable[int]]:
    """`await operator("sender-ids", …)` runs an operator's command on the stack and returns its exit code."""

    async def run(*arguments: str) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "cooee",
            *arguments,
            "--reason",
            "contract test",
            cwd=REPOSITORY,
            env=stack.environment,
        )
        return await process.wait()

    return run


async def test_assigned_number_belongs_to_one_organisation(
    stack: Stack,
    operator: Callable[..., Awaitable[int]],
    client_of: ClientOf,
    new_organisation: Callable[[], str],
    eventually: Callable[..., Any],
) -> None:
    owner, other = new_organisation(), new_organisation()
    owners, others = client_of(owner, "admin"), client_of(other, "admin")
    config = {"name": "sender", "value": NUMBER}
    assert (await owners("POST", "/api/configs/", config)).status == 400, "the number is not assigned so far"
    assert await operator("sender-ids", "assign", "--sender", NUMBER, "--organisation", owner) == 0
    assert await operator("sender-ids", "assign", "--sender", E164, "--organisation", other) == 5
    refused = await others("POST", "/api/configs/", config)
    assert (refused.status, next(iter(refused.body))) == (400, "value")
    assert (await owners("POST", "/api/configs/", config)).status == 201

    # Both organisations message the same person, the other one last.
    async with aiohttp.ClientSession(stack.url("handset")) as handset:

        async def send(call: Client) -> str:
            """Send a message and return the sender ID that the phone shows."""
            body = {"message": "Tomorrow at 10?", "recipient": PHONE}
            sent = await call("POST", "/api/sms/send/", body, headers={"Prefer": "wait=20"})
            assert sent.status == 200, sent
            async with handset.get("/api/messages/", params={"to": "61" + PHONE[1:]}) as answer:
                return str((await answer.json())["messages"][-1]["from"]).removeprefix("+")

        async def comes_from_its_number() -> bool:
            return await send(owners) == E164[1:]

        await eventually(comes_from_its_number)
        assert await send(others) != E164[1:]
        for phone in ("+61" + PHONE[1:], OTHER_PHONE):
            body = {"text": "For the owner", "to": E164, "provider": "mobile_message"}
            async with handset.post(f"/api/phones/{phone}/replies/", json=body) as answer:
                assert answer.status == 201, await answer.text()

    async def received(call: Client) -> list[str]:
        page = (await call("GET", "/api/messages/?direction=inbound")).body
        return sorted(message["phone"] for message in page["results"])

    async def owner_has_both() -> bool:
        return await received(owners) == sorted([PHONE, "0" + OTHER_PHONE[3:]])

    await eventually(owner_has_both)
    assert await received(others) == []
    assert await operator("sender-ids", "remove", "--sender", NUMBER) == 0
