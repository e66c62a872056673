"""Mobile Message's answers as a table, and what goes wrong on the way."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import pytest

from delivery.providers import make_providers
from delivery.providers.base import (
    AccountError,
    SubmissionRefused,
    SubmissionError,
    NotConnected,
    Outcome,
    OutcomeUnknown,
    OutgoingMessage,
    Throttled,
)
from delivery.providers.mobile_message import MobileMessage
from delivery.settings import Settings

from .conftest import MARK

MESSAGES = [OutgoingMessage(7, "+61453000001", "Hi Ana"), OutgoingMessage(8, "+61453000002", "Hi Bo")]
MakeProvider = Callable[..., MobileMessage]


@pytest.fixture
async def make_provider(carrier: Any, make_settings: Callable[..., Settings]) -> AsyncIterator[MakeProvider]:
    made: list[MobileMessage] = []

    def make(**changes: Any) -> MobileMessage:
        made.append(MobileMessage(make_settings(**({"mobile_message_base_url": carrier.url} | changes))))
        return made[-1]

    yield make
    for provider in made:
        await provider.close()


@pytest.fixture
def send(make_provider: MakeProvider) -> Any:
    async def once() -> list[Outcome]:
        provider = make_provider()
        return await provider.send(uuid4(), provider.prepare(MESSAGES), [7, 8])

    return once


def test_the_same_messages_are_the_same_bytes(make_provider: MakeProvider) -> None:
    provider = make_provider()
    assert provider.prepare(MESSAGES) == provider.prepare(list(MESSAGES))
    assert json.loads(provider.prepare(MESSAGES)) == {
        "enable_unicode": False,
        "messages": [
            {"to": "61453000001", "message": "Hi Ana", "sender": "Cooee", "custom_ref": f"{MARK}-7"},
            {"to": "61453000002", "message": "Hi Bo", "sender": "Cooee", "custom_ref": f"{MARK}-8"},
        ],
    }


@pytest.mark.parametrize(
    ("verdict", "outcome"),
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
            Outcome("refused", failure_category="content_rejected", error="Message content is not permitted.", raw="error"),
        ),
        ({"status": "error"}, Outcome("refused", failure_category="unknown", error="Refused.", raw="error")),
        # PostgreSQL takes no NUL, and a result that cannot be written holds up all that come after it.
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
async def test_each_item_is_read_by_itself(carrier: Any, send: Any, verdict: Any, outcome: Outcome) -> None:
    carrier.script.append(carrier.verdicts({"status": "success", "message_id": "u-0"}, verdict))
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
        (503, "", {"Retry-After": "3"}, Throttled),
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
async def test_a_whole_answer_is_one_of_the_closed_list(
    carrier: Any, send: Any, status: int, body: str, headers: dict[str, str], error: type[SubmissionError]
) -> None:
    carrier.script.append(carrier.answer(status, body, **headers))
    with pytest.raises(error) as raised:
        await send()
    assert raised.value.maybe_accepted is (error is OutcomeUnknown)
    if isinstance(raised.value, Throttled):
        assert raised.value.retry_after_s == float(headers.get("Retry-After", 2))


async def test_a_reason_that_no_row_can_hold_is_cleaned(carrier: Any, send: Any) -> None:
    carrier.script.append(carrier.answer(400, "ba\0d"))
    with pytest.raises(SubmissionRefused) as raised:
        await send()
    assert (raised.value.reason, raised.value.item.error) == ("400 bad", "bad")


async def test_a_connection_that_breaks_after_writing_is_an_unknown_outcome(carrier: Any, send: Any) -> None:
    carrier.script.append(carrier.take_and_reset)
    with pytest.raises(OutcomeUnknown):
        await send()


async def test_a_carrier_that_never_answers_is_an_unknown_outcome(carrier: Any, make_provider: MakeProvider) -> None:
    carrier.script.append(carrier.take_and_wait)
    provider = make_provider(request_timeout_s=0.3)
    with pytest.raises(OutcomeUnknown):
        await provider.send(uuid4(), provider.prepare(MESSAGES), [7, 8])


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://no-such-host.invalid", "https://{host}"])
async def test_without_a_connection_nothing_was_sent(carrier: Any, make_provider: MakeProvider, url: str) -> None:
    provider = make_provider(mobile_message_base_url=url.format(host=carrier.url.removeprefix("http://")))
    with pytest.raises(NotConnected):
        await provider.send(uuid4(), b"{}", [7])


def test_the_vendor_itself_is_known_by_its_host(make_provider: MakeProvider) -> None:
    assert make_provider(mobile_message_base_url="https://api.mobilemessage.com.au/").reaches_people
    assert not make_provider().reaches_people


async def test_log_takes_everything(make_settings: Any) -> None:
    provider = make_providers(make_settings())["log"]
    assert [o.status for o in await provider.send(uuid4(), provider.prepare(MESSAGES), [7, 8])] == ["accepted"] * 2
