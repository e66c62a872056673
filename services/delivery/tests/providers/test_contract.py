"""The contract of every provider, over HTTP: sending, its errors, webhooks, signatures, repetitions."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web

from delivery.providers.base import (
    AccountError,
    DeliveryReceipt,
    InboundMessage,
    NotConnected,
    Outcome,
    OutcomeUnknown,
    OutgoingMessage,
    Provider,
    SubmissionError,
    SubmissionRefused,
    Throttled,
    WebhookMalformed,
    WebhookRefused,
    WebhookRequest,
)

from .contract import Listener, Rehearsal, Situation, rehearsals, serve

LONG = "A text of two parts. " * 10
RECEIPTS: tuple[Situation, ...] = ("undelivered", "early", "repeated", "out_of_order", "mangled", "forged", "silent")
_references = count(1001)
Make = Callable[..., Provider]


async def eventually(condition: Callable[[], bool], deadline_s: float = 10.0) -> None:
    """Wait until the condition holds, and fail if it does not within the deadline."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {deadline_s} s"
        await asyncio.sleep(0.02)


@dataclass
class Stage:
    """A running rehearsal and its provider."""

    rehearsal: Rehearsal
    provider: Provider
    listener: Listener

    def message(self, situation: Situation, **changes: Any) -> OutgoingMessage:
        """Return a new message to the recipient of a situation. Skip the test if the rehearsal does not have it."""
        if situation not in self.rehearsal.phones:
            pytest.skip(f"{self.provider.name}'s rehearsal has no {situation}")
        values = {"id": next(_references), "phone": self.rehearsal.phones[situation], "text": "Hi Ana"}
        return OutgoingMessage(**(values | changes))

    async def send(self, *messages: OutgoingMessage, provider: Provider | None = None) -> list[Outcome]:
        used = provider or self.provider
        outcomes = await used.send(uuid4(), used.prepare(messages), [message.id for message in messages])
        assert len(outcomes) == len(messages)
        return outcomes

    def receipts(self, message: OutgoingMessage) -> list[DeliveryReceipt]:
        """Return the receipts that name the message by our reference, in the order of their arrival."""
        receipts = [event for event in self.listener.events if isinstance(event, DeliveryReceipt)]
        return [receipt for receipt in receipts if receipt.reference == message.id]

    async def accepted(self) -> list[int]:
        """Return the references of the messages that the provider's server accepted."""
        return [reference for reference, _ in await self.rehearsal.accepted()]

    async def times_accepted(self, message: OutgoingMessage) -> int:
        return (await self.accepted()).count(message.id)


@pytest.fixture(scope="module", autouse=True)
async def credentials() -> AsyncIterator[None]:
    """Set AWS's credentials, which its own library reads from the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield


@pytest.fixture(scope="module", params=rehearsals(), ids=lambda cls: cls.provider.name)
async def stage(
    request: pytest.FixtureRequest, credentials: None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    rehearsal = request.param()
    listener = Listener()
    runner, listener.url = await serve(listener.app())
    await rehearsal.open(listener.url, tmp_path_factory.mktemp("rehearsal"))
    listener.provider = rehearsal.make()
    yield Stage(rehearsal, listener.provider, listener)
    await rehearsal.close()
    await runner.cleanup()
    await listener.provider.close()


@pytest.fixture
async def make(stage: Stage) -> AsyncIterator[Make]:
    """`make(url=…, request_timeout_s=…)`: another instance of the provider."""
    opened: list[Provider] = []

    def make_one(**changes: Any) -> Provider:
        opened.append(stage.rehearsal.make(**changes))
        return opened[-1]

    yield make_one
    for provider in opened:
        await provider.close()


def test_a_provider_declares_name_formats_and_limits(stage: Stage) -> None:
    provider = stage.provider
    assert provider.name
    assert provider.formats <= {"sms", "mms"}
    assert provider.formats
    assert provider.batch_size >= 1
    assert provider.concurrency >= 1
    assert provider.rate >= 0
    assert not provider.reaches_people  # a rehearsal sends to no real phone


def test_the_same_messages_give_the_same_bytes(stage: Stage, make: Make) -> None:
    messages = [stage.message("accepted") for _ in range(stage.provider.batch_size)]
    assert stage.provider.prepare(messages) == make().prepare(list(messages))


async def test_an_accepted_message_has_the_providers_id(stage: Stage) -> None:
    message = stage.message("accepted", text=LONG)
    (outcome,) = await stage.send(message)
    assert outcome.status == "accepted"
    assert outcome.provider_message_id
    assert await stage.times_accepted(message) == 1


async def test_a_message_has_its_own_sender_id_or_the_default_one(stage: Stage) -> None:
    own, other = stage.message("accepted", sender_id="Cooee"), stage.message("accepted")
    for messages in [(own, other)] if stage.provider.batch_size > 1 else [(own,), (other,)]:
        await stage.send(*messages)
    sender_ids = {reference: sender_id.lstrip("+") for reference, sender_id in await stage.rehearsal.accepted()}
    assert sender_ids[own.id] == "Cooee"
    assert stage.provider.default_sender_id, "the provider of a rehearsal has the setting …_SENDER_ID"
    assert sender_ids[other.id] == stage.provider.default_sender_id.lstrip("+")


async def test_an_mms_is_accepted(stage: Stage) -> None:
    if "mms" not in stage.provider.formats:
        pytest.skip("The provider sends no MMS.")
    message = stage.message("accepted", format="mms", subject="Map", media_url="https://media.example.com/a.png")
    assert [outcome.status for outcome in await stage.send(message)] == ["accepted"]


async def test_a_batch_is_answered_in_order(stage: Stage) -> None:
    messages = [stage.message("accepted") for _ in range(stage.provider.batch_size)]
    outcomes = await stage.send(*messages)
    assert [outcome.status for outcome in outcomes] == ["accepted"] * len(messages)
    assert len({outcome.provider_message_id for outcome in outcomes}) == len(messages)
    assert set(await stage.accepted()) >= {message.id for message in messages}


@pytest.mark.parametrize("situation", ["refused", "opted_out"])
async def test_a_refused_message_has_its_failure_category(stage: Stage, situation: Situation) -> None:
    message = stage.message(situation)
    try:
        (outcome,) = await stage.send(message)
    except SubmissionRefused as refused:
        outcome = refused.item
    if situation == "opted_out" and outcome.status == "accepted":
        await eventually(lambda: [receipt.failure_category for receipt in stage.receipts(message)] == ["opted_out"])
        return
    assert (outcome.status, outcome.retryable) == ("refused", False)
    assert outcome.failure_category == ("invalid_number" if situation == "refused" else "opted_out")
    assert outcome.error
    assert await stage.times_accepted(message) == 0


async def test_one_refused_message_does_not_hide_the_outcomes_of_the_others(stage: Stage) -> None:
    if stage.provider.batch_size < 2:
        pytest.skip("The provider accepts one message in a request.")
    messages = [stage.message("accepted"), stage.message("refused"), stage.message("accepted")]
    messages = messages[: stage.provider.batch_size]
    try:
        outcomes = await stage.send(*messages)
    except SubmissionRefused:
        assert not {message.id for message in messages} & set(await stage.accepted())
        return
    assert [outcome.status for outcome in outcomes] == ["accepted", "refused", "accepted"][: len(messages)]


async def test_throttling_has_a_retry_time(stage: Stage) -> None:
    message = stage.message("throttled")
    with pytest.raises(Throttled) as raised:
        await stage.send(message)
    assert raised.value.retry_after_s > 0
    assert not raised.value.maybe_accepted
    assert await stage.times_accepted(message) == 0


async def test_an_account_error_is_recognised(stage: Stage) -> None:
    message = stage.message("account_error")
    with pytest.raises(AccountError):
        await stage.send(message)
    assert await stage.times_accepted(message) == 0


async def test_wrong_credentials_are_an_account_error(stage: Stage, make: Make) -> None:
    if not getattr(stage.rehearsal, "wrong", True):
        pytest.skip("The rehearsal does not check credentials.")
    provider = make(has_credentials=False)
    with pytest.raises(AccountError):
        await stage.send(stage.message("accepted"), provider=provider)
    with pytest.raises(AccountError):
        await provider.check()


async def test_check_returns_credit_and_sender_ids(stage: Stage) -> None:
    await stage.provider.check()


async def test_without_a_connection_nothing_is_sent(stage: Stage, make: Make) -> None:
    message = stage.message("accepted")
    for url in ("http://127.0.0.1:9", "http://no-such-host.invalid", stage.listener.url.replace("http:", "https:")):
        with pytest.raises(NotConnected):
            await stage.send(message, provider=make(url=url))
    assert await stage.times_accepted(message) == 0


@pytest.mark.parametrize(("situation", "times"), [("reset", 1), ("silent", 1), ("server_error", 0)])
async def test_after_the_request_was_written_the_outcome_is_unknown_without_an_answer(
    stage: Stage, make: Make, situation: Situation, times: int
) -> None:
    message = stage.message(situation)
    with pytest.raises(OutcomeUnknown) as raised:
        await stage.send(message, provider=make(request_timeout_s=3.0))
    assert raised.value.maybe_accepted
    assert await stage.times_accepted(message) == times  # the provider repeats nothing by itself


NONSENSE = [b"", b"<html>", b"[]", b"{}", b'"x"', b"7", b"\xff", b"null", b"[" * 5000]
NONSENSE += [b'{"results": [1], "messages": [1], "sid": null, "MessageId": null}', b'{"results": null, "messages": {}}']


@pytest.mark.parametrize("status", [200, 201, 202, 204, 500, 502])
async def test_an_unreadable_answer_leaves_the_outcome_open(stage: Stage, make: Make, status: int) -> None:
    body = b""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner, url = await serve(app)
    provider = make(url=url)
    message = stage.message("accepted")
    for body in NONSENSE:
        try:
            outcomes = await stage.send(message, provider=provider)
        except OutcomeUnknown:
            continue
        assert [outcome.status for outcome in outcomes] == ["missing"], body
    await runner.cleanup()


def refused_outcome(error: SubmissionError) -> Outcome:
    """Return what a failed submission means for its only message, which must not have been accepted."""
    assert not error.maybe_accepted
    return error.item if isinstance(error, SubmissionRefused) else Outcome("refused", error=error.reason)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413, 418, 422, 429])
async def test_a_refusal_without_details_is_one_of_the_submission_errors(stage: Stage, make: Make, status: int) -> None:
    app = web.Application()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=b"ba\0d")

    app.router.add_route("*", "/{path:.*}", answer)
    runner, url = await serve(app)
    try:
        (outcome,) = await stage.send(stage.message("accepted"), provider=make(url=url))
    except SubmissionError as error:
        outcome = refused_outcome(error)
    assert outcome.status == "refused"
    assert "\0" not in (outcome.error or "")
    await runner.cleanup()


async def test_a_repeated_key_gets_the_first_answer(stage: Stage) -> None:
    if not stage.provider.deduplicates:
        pytest.skip("The provider does not recognise repetitions.")
    message, key = stage.message("accepted"), uuid4()
    body = stage.provider.prepare([message])
    first = await stage.provider.send(key, body, [message.id])
    assert await stage.provider.send(key, body, [message.id]) == first
    assert await stage.times_accepted(message) == 1


async def test_a_look_up_returns_a_receipt(stage: Stage) -> None:
    if not stage.provider.can_look_up:
        pytest.skip("The provider has no look-up.")
    (outcome,) = await stage.send(stage.message("accepted"))
    assert outcome.provider_message_id
    found = await stage.provider.look_up(outcome.provider_message_id)
    assert found is not None
    assert found.provider_message_id == outcome.provider_message_id
    assert found.status in ("sent", "delivered")
    assert await stage.provider.look_up("00000000-0000-4000-8000-000000000000") is None


@pytest.fixture(scope="module")
async def reported(stage: Stage) -> dict[Situation, OutgoingMessage]:
    """Send one message in each situation of receipts, and wait for all their receipts."""
    if not stage.provider.sends_receipts:
        pytest.skip("The provider sends no receipts.")
    sent = {situation: stage.message(situation, text=LONG) for situation in RECEIPTS}
    waiting = asyncio.create_task(stage.send(sent["silent"]))
    for situation in set(RECEIPTS) - {"silent"}:
        await stage.send(sent[situation])
    ends = {"undelivered": "failed"}
    for situation, message in sent.items():
        if situation != "forged":
            end = ends.get(situation, "delivered")
            await eventually(lambda m=message, e=end: {"sent", e} <= {r.status for r in stage.receipts(m)})  # type: ignore[misc]
    await eventually(lambda: len(stage.receipts(sent["repeated"])) >= 4)
    await eventually(lambda: bool(stage.listener.refused))
    waiting.cancel()  # its receipts have arrived, its answer never will
    return sent


@pytest.mark.parametrize("situation", ["early", "repeated", "out_of_order", "silent"])
async def test_receipts_name_the_message_in_any_order(
    stage: Stage, reported: dict[Situation, OutgoingMessage], situation: Situation
) -> None:
    receipts = stage.receipts(reported[situation])
    for part in {receipt.part for receipt in receipts}:
        statuses = [receipt.status for receipt in receipts if receipt.part == part]
        assert set(statuses) == {"sent", "delivered"}
        if situation == "out_of_order":
            assert statuses[0] == "delivered"
    assert all(1 <= receipt.part <= receipt.of_parts for receipt in receipts)
    assert all(receipt.raw for receipt in receipts)


async def test_only_a_repeated_receipt_has_the_same_id(
    stage: Stage, reported: dict[Situation, OutgoingMessage]
) -> None:
    receipts = stage.receipts(reported["repeated"])
    by_id = {receipt.id: (receipt.part, receipt.status) for receipt in receipts}
    assert len(receipts) == 2 * len(by_id)
    assert len(set(by_id.values())) == len(by_id)
    ids = [event.id for event in stage.listener.events if isinstance(event, DeliveryReceipt)]
    assert len(set(ids)) >= len(reported)


async def test_a_failed_receipt_has_a_category_and_an_error(
    stage: Stage, reported: dict[Situation, OutgoingMessage]
) -> None:
    failed = [receipt for receipt in stage.receipts(reported["undelivered"]) if receipt.status == "failed"]
    assert all(receipt.failure_category and receipt.error for receipt in failed)


async def test_another_spelling_of_the_id_names_the_same_message(
    stage: Stage, reported: dict[Situation, OutgoingMessage]
) -> None:
    assert "delivered" in [receipt.status for receipt in stage.receipts(reported["mangled"])]


async def test_a_webhook_with_a_wrong_signature_is_refused(
    stage: Stage, reported: dict[Situation, OutgoingMessage]
) -> None:
    assert stage.receipts(reported["forged"]) == []
    assert stage.listener.refused


async def test_a_repeated_webhook_reports_nothing_new(stage: Stage, reported: dict[Situation, OutgoingMessage]) -> None:
    known = {event.id for event in stage.listener.events}
    for request in stage.listener.requests[:20]:
        assert {event.id for event in await stage.provider.read_webhook(request)} <= known


async def test_a_changed_webhook_is_refused(stage: Stage, reported: dict[Situation, OutgoingMessage]) -> None:
    """Change the message and drop the token of the address; keep the signature, and drop it, too."""
    reference = str(reported["early"].id).encode()
    original = next(r for r in stage.listener.requests if reference in r.body + r.url.encode())
    body = original.body.replace(reference, b"1") + b" "
    changed = replace(original, url=original.url.partition("?")[0], query={}, body=body)
    for headers in (original.headers, {}):
        with pytest.raises(WebhookRefused):
            await stage.provider.read_webhook(replace(changed, headers=headers))


JUNK = [b"", b"{", b"[]", b"{}", b"null", b"\xff\x00", b"a=b&a=c", b"[" * 5000, b'{"Type": "Notification"}', b"%" * 99]


@pytest.mark.parametrize("kind", ["receipts", "inbound", "events", "nonsense"])
async def test_junk_is_refused_without_another_error(stage: Stage, kind: str) -> None:
    url = f"{stage.listener.url}/api/webhooks/providers/{stage.provider.name}/{kind}/"
    for body in JUNK:
        for headers in ({}, {"x-twilio-signature": "?", "x-mm-timestamp": "\u0661", "x-mm-signature": "\ud800"}):
            with pytest.raises((WebhookRefused, WebhookMalformed)):
                await stage.provider.read_webhook(WebhookRequest(kind, url, {"token": "\u0661"}, headers, body))


async def test_a_stop_is_reported_and_the_provider_refuses_the_next_message(stage: Stage) -> None:
    if not stage.provider.sends_receipts:
        pytest.skip("The provider sends no receipts.")
    message = stage.message("accepted", phone="+61491579455")
    (outcome,) = await stage.send(message)
    await stage.rehearsal.reply(message.phone, "Stop")

    def inbound() -> list[InboundMessage]:
        return [event for event in stage.listener.events if isinstance(event, InboundMessage)]

    await eventually(lambda: bool(inbound()))
    assert {one.phone.lstrip("+") for one in inbound()} == {message.phone.lstrip("+")}
    assert inbound()[0].text == "Stop"
    assert inbound()[0].received_at.tzinfo
    assert all(i.reference == message.id or i.in_reply_to == outcome.provider_message_id or i.to for i in inbound())
    if stage.provider.handles_opt_outs:
        again = stage.message("accepted", phone=message.phone)
        (refused,) = await stage.send(again)
        if refused.status == "accepted":
            await eventually(lambda: [receipt.failure_category for receipt in stage.receipts(again)] == ["opted_out"])
        else:
            assert (refused.status, refused.failure_category) == ("refused", "opted_out")
