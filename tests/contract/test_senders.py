"""A number that the operator assigns to one organisation: it sends from it and gets what people write to it."""

from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from tools.embedded.supervisor import Stack
from tools.operator.__main__ import run
from tools.operator.stack import Stack as OperatorStack

pytestmark = pytest.mark.stack

NUMBER, AT_CARRIER = "0491570158", "+61491570158"
PHONE, STRANGER = "0491572549", "+61491572665"


async def test_a_number_is_one_organisations_by_the_operators_word(
    stack: Stack, client_of: Callable[..., Any], new_organisation: Callable[[], str], eventually: Callable[..., Any]
) -> None:
    operator = OperatorStack(stack.environment)
    owner, other = new_organisation(), new_organisation()
    owners, others = client_of(owner, "admin"), client_of(other, "admin")
    config = {"name": "sender", "value": NUMBER}
    assert (await owners("POST", "/api/configs/", config)).status == 400, "nobody has assigned it"
    assert await run(["senders", "assign", "--sender", NUMBER, "--organisation", owner], operator) == 0
    assert await run(["senders", "assign", "--sender", AT_CARRIER, "--organisation", other], operator) == 2
    refused = await others("POST", "/api/configs/", config)
    assert (refused.status, next(iter(refused.body))) == (400, "value")
    assert (await owners("POST", "/api/configs/", config)).status == 201

    # Both write to the same person, the other organisation last.
    async with aiohttp.ClientSession(stack.url("handset")) as handset:

        async def send(call: Any) -> str:
            """Where the person sees it come from."""
            sent = await call(
                "POST",
                "/api/sms/send/",
                {"message": "Tomorrow at 10?", "recipient": PHONE},
                headers={"Prefer": "wait=20"},
            )
            assert sent.status == 200, sent
            async with handset.get("/api/messages/", params={"to": "61" + PHONE[1:]}) as answer:
                return str((await answer.json())["messages"][-1]["from"]).removeprefix("+")

        async def comes_from_its_number() -> bool:
            return await send(owners) == AT_CARRIER[1:]

        await eventually(comes_from_its_number)
        assert await send(others) != AT_CARRIER[1:]
        for phone in ("+61" + PHONE[1:], STRANGER):
            body = {"text": "For the owner", "to": AT_CARRIER, "provider": "mobile_message"}
            async with handset.post(f"/api/phones/{phone}/replies/", json=body) as answer:
                assert answer.status == 201, await answer.text()

    async def received(call: Any) -> list[str]:
        page = (await call("GET", "/api/messages/?direction=inbound")).body
        return sorted(message["phone"] for message in page["results"])

    async def both_came() -> bool:
        return await received(owners) == sorted([PHONE, "0" + STRANGER[3:]])

    await eventually(both_came)
    assert await received(others) == []
    assert await run(["senders", "remove", "--sender", NUMBER], operator) == 0
