"""The accounts at the providers are checked, and a test message is submitted directly."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from .conftest import Operator

FICTIONAL, REAL = "0491570006", "0441000001"


class FakeProvider:
    """Answers like Mobile Message, or with `status` when it is set."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 0
        self.accepted: list[dict[str, Any]] = []

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a check of the account or a submission."""
        if self.status:
            return web.json_response({"error": "no"}, status=self.status)
        if request.method == "GET":
            return web.json_response({"status": "complete", "credit_balance": 41, "senders": []})
        messages = (await request.json())["messages"]
        self.accepted += messages
        results = [{**message, "status": "success", "message_id": "mm-1", "cost": 1} for message in messages]
        return web.json_response({"status": "complete", "results": results})


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    """Start the provider on a free port."""
    running = FakeProvider()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", running.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    running.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    yield running
    await runner.cleanup()


async def test_health_has_a_line_for_each_provider(operator: Operator, provider: FakeProvider) -> None:
    environment = {"SMS_PROVIDERS": "mobile_message,log", "MOBILE_MESSAGE_BASE_URL": provider.url}
    code, output = await operator("health", **environment)
    lines = output.splitlines()
    assert (code, len(lines)) == (0, 3)
    assert lines.pop(0) == "asked with the settings of the environment variables"
    assert lines[0].split()[:4] == ["mobile_message", "sms", "1", "ok"]
    assert "41" in lines[0]
    assert lines[1].startswith("log")
    provider.status = 401
    code, output = await operator("health", **environment)
    assert code == 1
    assert "FAILED  account_error" in output
    code, output = await operator(
        "health", SMS_PROVIDERS="mobile_message", MOBILE_MESSAGE_BASE_URL="http://127.0.0.1:9"
    )
    assert (code, "FAILED  provider_unavailable" in output) == (1, True)


async def test_test_message_is_sent_only_with_yes(operator: Operator, provider: FakeProvider) -> None:
    arguments = ("send-test", "--provider", "mobile_message", "--to", REAL, "--text", "Hello")
    code, output = await operator(*arguments, MOBILE_MESSAGE_BASE_URL=provider.url)
    assert (code, "Add --yes" in output, provider.accepted) == (2, True, [])
    code, output = await operator(*arguments, "--yes", MOBILE_MESSAGE_BASE_URL=provider.url)
    assert code == 0
    assert "Limits and opt-outs are not checked" in output
    assert "accepted as mm-1" in output
    assert [message["message"] for message in provider.accepted] == ["Hello"]
    provider.status = 401
    code, output = await operator(*arguments, "--yes", MOBILE_MESSAGE_BASE_URL=provider.url)
    assert (code, "not accepted: account_error" in output) == (1, True)
    provider.status = 500
    code, output = await operator(*arguments, "--yes", MOBILE_MESSAGE_BASE_URL=provider.url)
    assert (code, "unknown whether the message was accepted" in output) == (1, True)


async def test_fictional_numbers_are_refused_for_real_providers(operator: Operator) -> None:
    arguments = ("send-test", "--provider", "mobile_message", "--to", FICTIONAL, "--yes")
    code, output = await operator(*arguments)  # at the provider's own address
    assert (code, "fictional number" in output) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--provider", "nonsuch", "--to", REAL), "nonsuch"),
        (("--provider", "log", "--to", "12"), "--to"),
        (("--provider", "twilio", "--to", REAL), "TWILIO_ACCOUNT_SID"),
    ],
)
async def test_impossible_test_message_is_refused_with_the_reason(
    operator: Operator, arguments: tuple[str, ...], error: str
) -> None:
    code, output = await operator("send-test", *arguments, "--yes")
    assert (code, error in output) == (2, True), output
