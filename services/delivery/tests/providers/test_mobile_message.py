"""Mobile Message's answers as a table, and requests that fail."""

import json
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest

from delivery.providers import make_providers
from delivery.providers.base import (
    AccountError,
    NotConnected,
    Outcome,
    OutcomeUnknown,
    OutgoingMessage,
    SubmissionError,
    SubmissionRefused,
    Throttled,
)
from delivery.providers.mobile_message import MobileMessage
from delivery.settings import Settings

from .conftest import MARK, SILENT, Make, ProviderApi

MESSAGES = [OutgoingMessage(7, "+61453000001", "Hi Ana"), OutgoingMessage(8, "+61453000002", "Hi Bo")]
Send = Callable[[], Awaitable[list[Outcome]]]
GIVEN = {"username": "user", "password": "password", "sender_id": "Cooee"}


@pytest.fixture
def provider(make: Make) -> MobileMessage:
    return make(MobileMessage, **GIVEN)


@pytest.fixture
def send(provider: MobileMessage) -> Send:
    """`await send()` submits the two messages."""

    async def once() -> list[Outcome]:
        return await provider.send(uuid4(), provider.prepare(MESSAGES), [7, 8])

    return once


def test_the_same_messages_give_the_same_bytes(provider: MobileMessage) -> None:
    assert provider.prepare(MESSAGES) == provider.prepare(list(MESSAGES))
    assert json.loads(provider.prepare(MESSAGES)) == {
        "enable_unicode": False,
        "messages": [
            {"to": "61453000001", "message": "Hi Ana", "sender": "Cooee", "custom_ref": f"{MARK}-7"},
            {"to": "61453000002", "message": "Hi Bo", "sender": "Cooee", "custom_ref": f"{MARK}-8"},
        ],
    }


@pytest.mark.parametrize(
    ("item", "outcome"),
    [
        ({"status": "success", "message_id": "U-1", "cost": 2}, Outcome("accepted", "u-1", parts=2, raw="success")),
        ({"status": "success", "cost": "two"}, Outcome("accepted", raw="success")),
        (
            {"status": "error", "error": "Invalid phone number."},
            Outcome("refused", failure_category="invalid_number", error="Invalid phone number.", raw="error"),
        ),
        (
            {"status": "error", "error": ["Invalid sender.", "You do not have permission to use this sender."]},
            Outcome(
                "refused",
                failure_category="account_error",
                error="Invalid sender. You do not have permission to use this sender.",
                raw="error",
            ),
        ),
        (
            {"status": "error", "error": "Message content is not permitted."},
            Outcome(
                "refused", failure_category="content_rejected", error="Message content is not permitted.", raw="error"
            ),
        ),
        ({"status": "error"}, Outcome("refused", failure_category="unknown", error="Refused.", raw="error")),
        # PostgreSQL refuses null characters, and a result that it refuses would block all others.
        ({"status": "success", "message_id": "u\0-1"}, Outcome("accepted", "u-1", raw="success")),
        (
            {"status": "error", "error": "No\0 such"},
            Outcome("refused", failure_category="unknown", error="No such", raw="error"),
        ),
        (
            {"status": "blocked"},
            Outcome(
                "refused",
                failure_category="opted_out",
                error="The recipient has unsubscribed from this sender at the provider.",
                raw="blocked",
            ),
        ),
        ({"status": "on the moon"}, Outcome("missing")),
        (None, Outcome("missing")),
    ],
)
async def test_each_result_is_read_by_itself_in_any_order(
    api: ProviderApi, send: Send, item: dict[str, object] | None, outcome: Outcome
) -> None:
    results = [{"custom_ref": f"{MARK}-8", **item}] if item else []
    results.append({"custom_ref": f"{MARK}-7", "status": "success", "message_id": "u-0"})
    api.answers(200, {"status": "complete", "results": results})
    assert await send() == [Outcome("accepted", "u-0", raw="success"), outcome]


@pytest.mark.parametrize(
    ("status", "body", "headers", "error"),
    [
        (400, '{"error": "Malformed."}', {}, SubmissionRefused),
        (413, "too large", {}, SubmissionRefused),
        (401, '{"message": "Invalid API credentials."}', {}, AccountError),
        (403, '{"error": "Insufficient credits."}', {}, AccountError),
        (404, "<html>", {}, AccountError),
        (301, "", {"Location": "http://127.0.0.1:9/"}, AccountError),
        (429, "Too many concurrent requests. Please wait.", {}, Throttled),
        (503, "", {"Retry_After": "3"}, Throttled),
        (503, "", {}, OutcomeUnknown),
        (500, '{"error": "Oops."}', {}, OutcomeUnknown),
        (502, "<html>", {}, OutcomeUnknown),
        (409, "running", {}, OutcomeUnknown),
        (202, "{}", {}, OutcomeUnknown),
        (200, "", {}, OutcomeUnknown),
        (200, "[]", {}, OutcomeUnknown),
        (200, '{"results": [1]}', {}, OutcomeUnknown),
        (200, '{"status": "complete"}', {}, OutcomeUnknown),
    ],
)
async def test_a_failed_request_raises_one_of_the_submission_errors(
    api: ProviderApi, send: Send, status: int, body: str, headers: dict[str, str], error: type[SubmissionError]
) -> None:
    api.answers(status, body, **headers)
    with pytest.raises(error) as raised:
        await send()
    assert raised.value.maybe_accepted is (error is OutcomeUnknown)
    if isinstance(raised.value, Throttled):
        assert raised.value.retry_after_s == float(headers.get("Retry_After", 2))


async def test_a_reason_with_a_null_character_is_cleaned(api: ProviderApi, send: Send) -> None:
    api.answers(400, "ba\0d")
    with pytest.raises(SubmissionRefused) as raised:
        await send()
    assert (raised.value.reason, raised.value.item.error) == ("400 bad", "bad")


async def test_a_connection_that_breaks_after_writing_is_an_unknown_outcome(api: ProviderApi, send: Send) -> None:
    api.script.append(None)
    with pytest.raises(OutcomeUnknown):
        await send()


async def test_a_missing_answer_is_an_unknown_outcome(api: ProviderApi, make: Make) -> None:
    api.script.append(SILENT)
    provider = make(MobileMessage, **GIVEN, request_timeout_s=0.3)
    with pytest.raises(OutcomeUnknown):
        await provider.send(uuid4(), provider.prepare(MESSAGES), [7, 8])


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://no-such-host.invalid", "https://{host}"])
async def test_without_a_connection_nothing_is_sent(api: ProviderApi, make: Make, url: str) -> None:
    provider = make(MobileMessage, **GIVEN, base_url=url.format(host=api.url.removeprefix("http://")))
    with pytest.raises(NotConnected):
        await provider.send(uuid4(), b"{}", [7])


async def test_the_log_provider_accepts_everything(make_settings: Callable[..., Settings]) -> None:
    provider = make_providers(make_settings())["log"]
    assert [o.status for o in await provider.send(uuid4(), provider.prepare(MESSAGES), [7, 8])] == ["accepted"] * 2
