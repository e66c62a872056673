"""What every provider keeps, tried over HTTP: sending, its failures, webhooks, signatures, replays."""

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
    SubmissionRefused,
    SubmissionError,
    InboundMessage,
    NotConnected,
    Outcome,
    OutcomeUnknown,
    OutgoingMessage,
    Provider,
    DeliveryReceipt,
    Throttled,
    WebhookMalformed,
    WebhookRefused,
    WebhookRequest,
)

from .contract import Listener, Rehearsal, Situation, rehearsals, serve

LONG = "A text of two parts. " * 10
RECEIPTS: tuple[Situation, ...] = ("undelivered", "early", "repeated", "out_of_order", "mangled", "forged", "silent")
_references = count(1001)


async def eventually(holds: Callable[[], bool], deadline_s: float = 10.0) -> None:
    """Waits until it holds; fails when it does not within the deadline."""
    deadline = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.02)


@dataclass
class Stage:
    """A rehearsal that runs, and its provider."""

    rehearsal: Rehearsal
    provider: Provider
    listener: Listener

    def message(self, situation: Situation, **changes: Any) -> OutgoingMessage:
        """A new message to whom the situation stands for. The test is skipped when the vendor cannot do it."""
        if situation not in self.rehearsal.phones:
            pytest.skip(f"{self.provider.name}'s rehearsal has no {situation}")
        given = {"id": next(_references), "phone": self.rehearsal.phones[situation], "text": "Hi Ana"}
        return OutgoingMessage(**(given | changes))

    async def send(self, *messages: OutgoingMessage, provider: Provider | None = None) -> list[Outcome]:
        sender = provider or self.provider
        outcomes = await sender.send(uuid4(), sender.prepare(messages), [message.id for message in messages])
        assert len(outcomes) == len(messages)
        return outcomes

    def receipts(self, message: OutgoingMessage) -> list[DeliveryReceipt]:
        """Those that name the message by our reference, in the order in which they came."""
        told = [notice for notice in self.listener.notices if isinstance(notice, DeliveryReceipt)]
        return [receipt for receipt in told if receipt.reference == message.id]

    async def times_taken(self, message: OutgoingMessage) -> int:
        return (await self.rehearsal.taken()).count(message.id)


@pytest.fixture(scope="module", autouse=True)
async def credentials() -> AsyncIterator[None]:
    """AWS's are found by its own library."""
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
    await rehearsal.open(listener.url, tmp_path_factory.mktemp("vendor"))
    listener.provider = rehearsal.make()
    yield Stage(rehearsal, listener.provider, listener)
    await rehearsal.close()
    await runner.cleanup()
    await listener.provider.close()


@pytest.fixture
async def make(stage: Stage) -> AsyncIterator[Callable[..., Provider]]:
    """`make(url=…, request_timeout_s=…)`: another instance of the provider."""
    made: list[Provider] = []

    def one(**changes: Any) -> Provider:
        made.append(stage.rehearsal.make(**changes))
        return made[-1]

    yield one
    for provider in made:
        await provider.close()


def test_it_says_what_it_is(stage: Stage) -> None:
    provider = stage.provider
    assert provider.name
    assert provider.formats <= {"sms", "mms"}
    assert provider.formats
    assert provider.batch_size >= 1
    assert provider.concurrency >= 1
    assert provider.rate >= 0
    assert not provider.reaches_people  # a rehearsal reaches nobody


def test_the_same_messages_are_the_same_bytes(stage: Stage, make: Any) -> None:
    messages = [stage.message("accepted") for _ in range(stage.provider.batch_size)]
    assert stage.provider.prepare(messages) == make().prepare(list(messages))


async def test_an_accepted_message(stage: Stage) -> None:
    message = stage.message("accepted", text=LONG)
    (outcome,) = await stage.send(message)
    assert outcome.status == "accepted"
    assert outcome.provider_message_id
    assert await stage.times_taken(message) == 1


async def test_an_mms(stage: Stage) -> None:
    if "mms" not in stage.provider.formats:
        pytest.skip("no MMS")
    message = stage.message("accepted", format="mms", subject="Map", media_url="https://media.example.com/a.png")
    assert [outcome.status for outcome in await stage.send(message)] == ["accepted"]


async def test_a_batch_is_answered_in_order(stage: Stage) -> None:
    messages = [stage.message("accepted") for _ in range(stage.provider.batch_size)]
    outcomes = await stage.send(*messages)
    assert [outcome.status for outcome in outcomes] == ["accepted"] * len(messages)
    assert len({outcome.provider_message_id for outcome in outcomes}) == len(messages)
    assert set(await stage.rehearsal.taken()) >= {message.id for message in messages}


@pytest.mark.parametrize("situation", ["refused", "opted_out"])
async def test_a_message_that_is_refused_for_good(stage: Stage, situation: Situation) -> None:
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
    assert await stage.times_taken(message) == 0


async def test_one_refused_message_does_not_hide_what_became_of_the_others(stage: Stage) -> None:
    if stage.provider.batch_size < 2:
        pytest.skip("one message a request")
    messages = [stage.message("accepted"), stage.message("refused"), stage.message("accepted")]
    messages = messages[: stage.provider.batch_size]
    try:
        outcomes = await stage.send(*messages)
    except SubmissionRefused:
        assert not {message.id for message in messages} & set(await stage.rehearsal.taken())
        return
    assert [outcome.status for outcome in outcomes] == ["accepted", "refused", "accepted"][: len(messages)]


async def test_a_throttling(stage: Stage) -> None:
    message = stage.message("throttled")
    with pytest.raises(Throttled) as raised:
        await stage.send(message)
    assert raised.value.retry_after_s > 0
    assert not raised.value.maybe_accepted
    assert await stage.times_taken(message) == 0


async def test_a_fault_of_the_account(stage: Stage) -> None:
    message = stage.message("account_fault")
    with pytest.raises(AccountError):
        await stage.send(message)
    assert await stage.times_taken(message) == 0


async def test_wrong_credentials_are_the_accounts_fault(stage: Stage, make: Any) -> None:
    if not getattr(stage.rehearsal, "wrong", True):
        pytest.skip("the vendor of the rehearsal believes everybody")
    stranger = make(is_known=False)
    with pytest.raises(AccountError):
        await stage.send(stage.message("accepted"), provider=stranger)
    with pytest.raises(AccountError):
        await stranger.check()


async def test_how_the_account_stands(stage: Stage) -> None:
    await stage.provider.check()


async def test_before_there_is_a_connection_nothing_was_sent(stage: Stage, make: Any) -> None:
    message = stage.message("accepted")
    for url in ("http://127.0.0.1:9", "http://no-such-host.invalid", stage.listener.url.replace("http:", "https:")):
        with pytest.raises(NotConnected):
            await stage.send(message, provider=make(url=url))
    assert await stage.times_taken(message) == 0


@pytest.mark.parametrize(("situation", "taken"), [("reset", 1), ("silent", 1), ("server_error", 0)])
async def test_once_a_request_was_written_only_an_answer_tells(
    stage: Stage, make: Any, situation: Situation, taken: int
) -> None:
    message = stage.message(situation)
    with pytest.raises(OutcomeUnknown) as raised:
        await stage.send(message, provider=make(request_timeout_s=3.0))
    assert raised.value.maybe_accepted
    assert await stage.times_taken(message) == taken  # and nothing repeated it by itself


NONSENSE = [b"", b"<html>", b"[]", b"{}", b'"x"', b"7", b"\xff", b"null", b"[" * 5000]
NONSENSE += [b'{"results": [1], "messages": [1], "sid": null, "MessageId": null}', b'{"results": null, "messages": {}}']


@pytest.mark.parametrize("status", [200, 201, 202, 204, 500, 502])
async def test_an_answer_that_makes_no_sense_settles_nothing(stage: Stage, make: Any, status: int) -> None:
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


def refusal_in(error: SubmissionError) -> Outcome:
    """What a call that failed as a whole is for its one message; it must not have been taken."""
    assert not error.maybe_accepted
    return error.item if isinstance(error, SubmissionRefused) else Outcome("refused", error=error.reason)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413, 418, 422, 429])
async def test_a_refusal_without_a_word_is_one_of_the_closed_list(stage: Stage, make: Any, status: int) -> None:
    app = web.Application()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=b"ba\0d")

    app.router.add_route("*", "/{path:.*}", answer)
    runner, url = await serve(app)
    try:
        (outcome,) = await stage.send(stage.message("accepted"), provider=make(url=url))
    except SubmissionError as error:
        outcome = refusal_in(error)
    assert outcome.status == "refused"
    assert "\0" not in (outcome.error or "")
    await runner.cleanup()


async def test_a_repetition_under_its_key_is_answered_as_the_first_time(stage: Stage) -> None:
    if not stage.provider.deduplicates:
        pytest.skip("nothing recognises a repetition")
    message, key = stage.message("accepted"), uuid4()
    body = stage.provider.prepare([message])
    first = await stage.provider.send(key, body, [message.id])
    assert await stage.provider.send(key, body, [message.id]) == first
    assert await stage.times_taken(message) == 1


async def test_a_look_up(stage: Stage) -> None:
    if not stage.provider.can_look_up:
        pytest.skip("it cannot be asked")
    (outcome,) = await stage.send(stage.message("accepted"))
    assert outcome.provider_message_id
    found = await stage.provider.look_up(outcome.provider_message_id)
    assert found is not None
    assert found.provider_message_id == outcome.provider_message_id
    assert found.status in ("sent", "delivered")
    assert await stage.provider.look_up("00000000-0000-4000-8000-000000000000") is None


@pytest.fixture(scope="module")
async def told(stage: Stage) -> dict[Situation, OutgoingMessage]:
    """One message in each situation of receipts, once all that there is to tell of them was told."""
    if not stage.provider.receipts:
        pytest.skip("it tells nothing later")
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
    waiting.cancel()  # its receipts came; it would wait for its answer in vain
    return sent


@pytest.mark.parametrize("situation", ["early", "repeated", "out_of_order", "silent"])
async def test_receipts_name_the_message_whatever_the_order(
    stage: Stage, told: dict[Situation, OutgoingMessage], situation: Situation
) -> None:
    receipts = stage.receipts(told[situation])
    for part in {receipt.part for receipt in receipts}:
        statuses = [receipt.status for receipt in receipts if receipt.part == part]
        assert set(statuses) == {"sent", "delivered"}
        if situation == "out_of_order":
            assert statuses[0] == "delivered"
    assert all(1 <= receipt.part <= receipt.of_parts for receipt in receipts)
    assert all(receipt.raw for receipt in receipts)


async def test_the_same_receipt_has_the_same_id_and_another_another(
    stage: Stage, told: dict[Situation, OutgoingMessage]
) -> None:
    receipts = stage.receipts(told["repeated"])
    by_id = {receipt.id: (receipt.part, receipt.status) for receipt in receipts}
    assert len(receipts) == 2 * len(by_id)
    assert len(set(by_id.values())) == len(by_id)
    ids = [notice.id for notice in stage.listener.notices if isinstance(notice, DeliveryReceipt)]
    assert len(set(ids)) >= len(told)


async def test_a_failure_says_why(stage: Stage, told: dict[Situation, OutgoingMessage]) -> None:
    failed = [receipt for receipt in stage.receipts(told["undelivered"]) if receipt.status == "failed"]
    assert all(receipt.failure_category and receipt.error for receipt in failed)


async def test_an_id_that_is_written_otherwise_is_the_same_message(
    stage: Stage, told: dict[Situation, OutgoingMessage]
) -> None:
    assert "delivered" in [receipt.status for receipt in stage.receipts(told["mangled"])]


async def test_what_is_wrongly_signed_is_not_believed(stage: Stage, told: dict[Situation, OutgoingMessage]) -> None:
    assert stage.receipts(told["forged"]) == []
    assert stage.listener.refused


async def test_a_replay_tells_nothing_new(stage: Stage, told: dict[Situation, OutgoingMessage]) -> None:
    known = {notice.id for notice in stage.listener.notices}
    for request in stage.listener.requests[:20]:
        assert {notice.id for notice in await stage.provider.read_webhook(request)} <= known


async def test_a_webhook_that_was_changed_is_not_believed(stage: Stage, told: dict[Situation, OutgoingMessage]) -> None:
    """Another message in it, its address without what proves it; with the signature that it came with, and without."""
    reference = str(told["early"].id).encode()
    came = next(r for r in stage.listener.requests if reference in r.body + r.url.encode())
    body = came.body.replace(reference, b"1") + b" "
    changed = replace(came, url=came.url.partition("?")[0], query={}, body=body)
    for headers in (came.headers, {}):
        with pytest.raises(WebhookRefused):
            await stage.provider.read_webhook(replace(changed, headers=headers))


JUNK = [b"", b"{", b"[]", b"{}", b"null", b"\xff\x00", b"a=b&a=c", b"[" * 5000, b'{"Type": "Notification"}', b"%" * 99]


@pytest.mark.parametrize("kind", ["receipts", "inbound", "events", "nonsense"])
async def test_junk_is_refused_and_breaks_nothing(stage: Stage, kind: str) -> None:
    url = f"{stage.listener.url}/api/webhooks/providers/{stage.provider.name}/{kind}/"
    for body in JUNK:
        for headers in ({}, {"x-twilio-signature": "?", "x-mm-timestamp": "\u0661", "x-mm-signature": "\ud800"}):
            with pytest.raises((WebhookRefused, WebhookMalformed)):
                await stage.provider.read_webhook(WebhookRequest(kind, url, {"token": "\u0661"}, headers, body))


async def test_a_stop_is_heard_and_kept_by_the_provider(stage: Stage) -> None:
    if not stage.provider.receipts:
        pytest.skip("it tells nothing later")
    message = stage.message("accepted", phone="+61491579455")
    (outcome,) = await stage.send(message)
    await stage.rehearsal.reply(message.phone, "Stop")

    def replies() -> list[InboundMessage]:
        return [notice for notice in stage.listener.notices if isinstance(notice, InboundMessage)]

    await eventually(lambda: bool(replies()))
    assert {inbound.phone.lstrip("+") for inbound in replies()} == {message.phone.lstrip("+")}
    assert replies()[0].text == "Stop"
    assert replies()[0].received_at.tzinfo
    assert all(i.reference == message.id or i.in_reply_to == outcome.provider_message_id or i.to for i in replies())
    if stage.provider.handles_opt_outs:
        again = stage.message("accepted", phone=message.phone)
        (refused,) = await stage.send(again)
        if refused.status == "accepted":
            await eventually(lambda: [receipt.failure_category for receipt in stage.receipts(again)] == ["opted_out"])
        else:
            assert (refused.status, refused.failure_category) == ("refused", "opted_out")
