"""Providers are asked how they are; a test message goes straight to one."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

Operator = Callable[..., Awaitable[tuple[int, str]]]
FICTIONAL, REAL = "0491570006", "0441000001"


class Carrier:
    """Answers as Mobile Message does, or with `status` when it is set."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 0
        self.taken: list[dict[str, Any]] = []

    async def answer(self, request: web.Request) -> web.Response:
        if self.status:
            return web.json_response({"error": "no"}, status=self.status)
        if request.method == "GET":
            return web.json_response({"status": "complete", "credit_balance": 41, "senders": []})
        messages = (await request.json())["messages"]
        self.taken += messages
        results = [{**message, "status": "success", "message_id": "mm-1", "cost": 1} for message in messages]
        return web.json_response({"status": "complete", "results": results})


@pytest.fixture
async def carrier() -> AsyncIterator[Carrier]:
    made = Carrier()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    made.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    yield made
    await runner.cleanup()


async def test_health_has_a_line_for_each_provider(operator: Operator, carrier: Carrier) -> None:
    environment = {"SMS_PROVIDERS": "mobile_message,log", "MOBILE_MESSAGE_BASE_URL": carrier.url}
    code, told = await operator("health", **environment)
    lines = told.splitlines()
    assert (code, len(lines)) == (0, 2)
    assert lines[0].split()[:4] == ["mobile_message", "sms", "1", "ok"]
    assert "41" in lines[0]
    assert lines[1].startswith("log")
    carrier.status = 401
    code, told = await operator("health", **environment)
    assert code == 1
    assert "FAILED  account_error" in told
    code, told = await operator("health", SMS_PROVIDERS="mobile_message", MOBILE_MESSAGE_BASE_URL="http://127.0.0.1:9")
    assert (code, "FAILED  provider_unavailable" in told) == (1, True)


async def test_a_test_message_is_sent_when_it_is_said_twice(operator: Operator, carrier: Carrier) -> None:
    words = ("send-test", "--provider", "mobile_message", "--to", REAL, "--text", "Hello")
    code, told = await operator(*words, MOBILE_MESSAGE_BASE_URL=carrier.url)
    assert (code, "say --yes" in told, carrier.taken) == (2, True, [])
    code, told = await operator(*words, "--yes", MOBILE_MESSAGE_BASE_URL=carrier.url)
    assert code == 0
    assert "no limit, no opt-out is asked" in told
    assert "accepted as mm-1" in told
    assert [message["message"] for message in carrier.taken] == ["Hello"]
    carrier.status = 401
    code, told = await operator(*words, "--yes", MOBILE_MESSAGE_BASE_URL=carrier.url)
    assert (code, "not taken: account_error" in told) == (1, True)
    carrier.status = 500
    code, told = await operator(*words, "--yes", MOBILE_MESSAGE_BASE_URL=carrier.url)
    assert (code, "unknown whether it was taken" in told) == (1, True)


async def test_numbers_of_fiction_are_kept_from_real_vendors(operator: Operator) -> None:
    words = ("send-test", "--provider", "mobile_message", "--to", FICTIONAL, "--yes")
    code, told = await operator(*words)  # at the vendor's own address
    assert (code, "reserved for fiction" in told) == (2, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--provider", "pigeon", "--to", REAL), "pigeon"),
        (("--provider", "log", "--to", "12"), "--to"),
        (("--provider", "twilio", "--to", REAL), "TWILIO_ACCOUNT_SID"),
    ],
)
async def test_what_cannot_be_done_is_said(operator: Operator, words: tuple[str, ...], told: str) -> None:
    code, said = await operator("send-test", *words, "--yes")
    assert (code, told in said) == (2, True), said
