"""The accounts at the providers are checked, and a test message is submitted directly."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from .conftest import Cooee

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
            return web.json_response({"status": "complete", "credit_balance": 41, "sender-ids": []})
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


async def test_check_has_a_line_for_each_provider(cooee: Cooee, provider: FakeProvider) -> None:
    environment = {"SMS_PROVIDERS": "mobile_message,log", "MOBILE_MESSAGE_BASE_URL": provider.url}
    checked = await cooee("providers", "check", **environment)
    lines = checked.out.splitlines()
    assert (checked.code, len(lines)) == (0, 4)
    assert lines[0] == "asked with the settings of the environment variables"
    assert lines[2].split() == ["mobile_message", "sms", "1", "ok", "credit", "41"]
    assert lines[3].startswith("log")
    provider.status = 401
    checked = await cooee("providers", "check", **environment)
    assert (checked.code, "failed  account_error" in " ".join(checked.out.split(" "))) == (1, True)
    unreachable = {"SMS_PROVIDERS": "mobile_message", "MOBILE_MESSAGE_BASE_URL": "http://127.0.0.1:9"}
    checked = await cooee("providers", "check", "--json", **unreachable)
    found = {
        one["name"]: (one["status"], one["failure_category"])
        for one in checked.document["providers"]
        if "reason" in one
    }
    assert (checked.code, found["mobile_message"]) == (1, ("failed", "provider_unavailable"))


async def test_test_message_is_sent_only_with_yes(cooee: Cooee, provider: FakeProvider) -> None:
    arguments = ("providers", "send-test", "--provider", "mobile_message", "--to", REAL, "--text", "Hello")
    sent = await cooee(*arguments, MOBILE_MESSAGE_BASE_URL=provider.url)
    assert (sent.code, "Add --yes" in sent.out, provider.accepted) == (2, True, [])
    sent = await cooee(*arguments, "--yes", MOBILE_MESSAGE_BASE_URL=provider.url)
    assert sent.code == 0
    assert "Limits and opt-outs are not checked" in sent.out
    assert "accepted as mm-1" in sent.out
    assert [message["message"] for message in provider.accepted] == ["Hello"]
    provider.status = 401
    sent = await cooee(*arguments, "--yes", MOBILE_MESSAGE_BASE_URL=provider.url)
    assert (sent.code, "not accepted: account_error" in sent.out) == (1, True)
    provider.status = 500
    sent = await cooee(*arguments, "--yes", MOBILE_MESSAGE_BASE_URL=provider.url)
    assert (sent.code, "unknown whether the message was accepted" in sent.out) == (1, True)


async def test_test_message_as_json_has_a_masked_phone(cooee: Cooee, provider: FakeProvider) -> None:
    arguments = ("providers", "send-test", "--provider", "mobile_message", "--to", REAL, "--yes", "--json")
    sent = await cooee(*arguments, MOBILE_MESSAGE_BASE_URL=provider.url)
    expected = {"provider": "mobile_message", "format": "sms", "status": "accepted", "provider_message_id": "mm-1"}
    assert (sent.code, sent.document) == (0, {**expected, "phone": "+614…01"})
    sent = await cooee(*arguments, "--show-phones", MOBILE_MESSAGE_BASE_URL=provider.url)
    assert sent.document["phone"] == "+61" + REAL[1:]


async def test_fictional_numbers_are_refused_for_real_providers(cooee: Cooee) -> None:
    arguments = ("providers", "send-test", "--provider", "mobile_message", "--to", FICTIONAL, "--yes")
    refused = await cooee(*arguments)  # at the provider's own address
    assert (refused.code, "fictional number" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("--provider", "nonsuch", "--to", REAL), 6, "nonsuch"),
        (("--provider", "log", "--to", "12"), 2, "--to"),
        (("--provider", "twilio", "--to", REAL), 6, "TWILIO_ACCOUNT_SID"),
    ],
)
async def test_impossible_test_message_is_refused_with_the_reason(
    cooee: Cooee, arguments: tuple[str, ...], code: int, error: str
) -> None:
    refused = await cooee("providers", "send-test", *arguments, "--yes")
    assert (refused.code, error in refused.err) == (code, True), refused
