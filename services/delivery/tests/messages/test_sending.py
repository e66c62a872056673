"""From the queue to a carrier that misbehaves: what follows from each answer, and from none."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from common.database import Database
from common.events import MessageDelayed, MessageFailed, MessageSent, ScheduleDue
from delivery.messages import loops
from delivery.messages.sender import Sender
from delivery.providers.words import Mark

Due = Callable[..., ScheduleDue]
Rows = Callable[..., Awaitable[list[Any]]]
TakeIn = Callable[..., Awaitable[None]]
Statuses = Callable[[], Awaitable[list[str]]]
Events = Callable[[Database], Awaitable[list[Any]]]
Step = Callable[[Sender], Awaitable[None]]
MakeSender = Callable[..., Sender]
ERROR = {"status": "error", "error": "Invalid phone number."}
BLOCKED = {"status": "blocked", "cost": 0}
SUCCESS = {"status": "success", "message_id": "mm-1"}


async def taken(rows: Rows) -> int:
    return sum(row.taken for row in await rows("SELECT taken FROM limits"))


async def test_a_message_goes_out_with_our_reference_and_its_outcome_is_told(
    due: Due,
    take_in: TakeIn,
    make_sender: MakeSender,
    make_settings: Any,
    send: Step,
    carrier: Any,
    rows: Rows,
    outbox_events: Events,
    database: Database,
) -> None:
    event = due(text="Café ☕", request_id="req-7")
    await take_in(event)
    await send(make_sender())
    (message,) = await rows("SELECT * FROM messages")
    key, raw = carrier.requests[0]
    reference = Mark(make_settings()).write(message.id)
    assert json.loads(raw) == {
        "enable_unicode": True,
        "messages": [
            {"to": "61453000001", "message": "Café ☕", "sender": "Cooee", "custom_ref": reference},
        ],
    }
    assert str(message.call_key) == key
    assert (message.status, message.attempts, message.provider_message_id) == ("sent", 1, f"mm-{message.id}")
    assert not await rows("SELECT key FROM calls")
    (told,) = await outbox_events(database)
    assert isinstance(told, MessageSent)
    assert (told.schedule_id, told.run, told.version, told.attempts) == (event.schedule_id, 1, 1, 1)
    assert (told.provider, told.request_id, told.sent_time) == ("mobile_message", "req-7", message.sent_time)


async def test_items_are_paired_by_reference_and_refused_one_by_one(
    due: Due,
    take_in: TakeIn,
    make_sender: MakeSender,
    send: Step,
    carrier: Any,
    rows: Rows,
    outbox_events: Events,
    database: Database,
) -> None:
    await take_in(*(due() for _ in range(3)))
    carrier.script.append(carrier.verdicts(SUCCESS, ERROR, BLOCKED))
    await send(make_sender())
    found = [(row.status, row.category) for row in await rows("SELECT * FROM messages ORDER BY id")]
    assert found == [("sent", None), ("failed", "invalid_number"), ("failed", "opted_out")]
    assert await taken(rows) == 1
    assert sum(isinstance(event, MessageFailed) for event in await outbox_events(database)) == 2


async def test_an_item_that_the_answer_leaves_out_is_unknown_and_not_repeated(
    due: Due,
    take_in: TakeIn,
    make_sender: MakeSender,
    send: Step,
    repeat: Step,
    carrier: Any,
    statuses: Statuses,
    rows: Rows,
) -> None:
    await take_in(due(), due())
    carrier.script.append(carrier.verdicts(SUCCESS, None))
    sender = make_sender()
    await send(sender)
    assert await statuses() == ["sent", "unknown"]
    (call,) = await rows("SELECT due_at = ends_at AS waits FROM calls")
    assert call.waits
    assert await taken(rows) == 2


async def test_a_throttled_message_waits_without_losing_an_attempt(
    due: Due,
    take_in: TakeIn,
    make_sender: MakeSender,
    send: Step,
    carrier: Any,
    rows: Rows,
    database: Database,
    execute: Any,
) -> None:
    await take_in(due())
    carrier.script.append(carrier.answer(429, "Too many concurrent requests. Please wait.", **{"Retry-After": "7"}))
    sender = make_sender()
    await send(sender)
    (message,) = await rows("SELECT *, next_attempt_at - now() AS pause FROM messages")
    assert (message.status, message.attempts) == ("retry_wait", 0)
    assert message.pause > timedelta(seconds=6)
    await execute("UPDATE messages SET next_attempt_at = now()")
    await loops.queue_retries(database, [sender])
    await send(sender)
    assert [row.status for row in await rows("SELECT status FROM messages")] == ["sent"]
    assert len({key for key, _ in carrier.requests}) == 2, "a retry is a new call with a new key"


async def test_a_batch_that_is_refused_whole_goes_one_by_one(
    due: Due, take_in: TakeIn, make_sender: MakeSender, send: Step, carrier: Any, rows: Rows
) -> None:
    await take_in(*(due(text=f"text {number}") for number in range(3)))
    carrier.script.append(carrier.answer(400, json.dumps({"error": "Message content is not permitted."})))
    sender = make_sender()
    await send(sender)
    carrier.script.append(carrier.answer(413, "content too large"))
    await send(sender)
    assert [len(json.loads(raw)["messages"]) for _, raw in carrier.requests] == [3, 1, 1, 1]
    found = sorted((row.status, row.category, row.attempts) for row in await rows("SELECT * FROM messages"))
    assert found == [("failed", "content_rejected", 1), ("sent", None, 1), ("sent", None, 1)]


@pytest.mark.parametrize("fault", ["reset", "500", "nonsense", "503"])
async def test_an_outcome_nobody_knows_is_repeated_under_its_key_and_sent_once(
    due: Due,
    take_in: TakeIn,
    make_sender: MakeSender,
    send: Step,
    repeat: Step,
    carrier: Any,
    statuses: Statuses,
    rows: Rows,
    fault: str,
) -> None:
    await take_in(due(), due())
    answers = {
        "reset": carrier.take_and_reset,
        "500": carrier.answer(500),
        "503": carrier.answer(503),
        "nonsense": carrier.answer(200, "<html>"),
    }
    carrier.script.append(answers[fault])
    sender = make_sender()
    await send(sender)
    assert await statuses() == ["unknown", "unknown"]
    assert await taken(rows) == 2
    await repeat(sender)
    assert await statuses() == ["sent", "sent"]
    assert len(set(carrier.requests)) == 1, "same key, same bytes"
    assert len(carrier.requests) == 2
    assert len(carrier.taken) == 2
    assert not await rows("SELECT key FROM calls")


@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_a_repetition_that_is_refused_leaves_the_call_unknown(
    due: Due,
    take_in: TakeIn,
    make_sender: MakeSender,
    send: Step,
    repeat: Step,
    carrier: Any,
    statuses: Statuses,
    rows: Rows,
    clock: Any,
    status: int,
) -> None:
    await take_in(due())
    carrier.script += [carrier.answer(500), carrier.answer(status, "no")]
    sender = make_sender()
    await send(sender)
    await repeat(sender)
    assert await statuses() == ["unknown"]
    (call,) = await rows("SELECT requests, state, due_at - requested_at AS pause FROM calls")
    assert (call.requests, call.state) == (2, "unknown")
    assert call.pause >= timedelta(seconds=900)
    clock.advance(60)  # a fault of the account keeps it away for half a minute
    await repeat(sender)
    assert await statuses() == ["sent"]


async def test_a_repetition_learns_what_the_first_answer_refused(
    due: Due, take_in: TakeIn, make_sender: MakeSender, send: Step, repeat: Step, carrier: Any, rows: Rows
) -> None:
    await take_in(due(), due())
    carrier.script += [carrier.answer(500), carrier.verdicts(SUCCESS, ERROR)]
    sender = make_sender()
    await send(sender)
    await repeat(sender)
    found = [(row.status, row.category) for row in await rows("SELECT * FROM messages ORDER BY id")]
    assert found == [("sent", None), ("failed", "invalid_number")]
    assert await taken(rows) == 1


async def test_an_unknown_call_ends_with_its_window_and_keeps_its_place(
    due: Due,
    take_in: TakeIn,
    make_sender: MakeSender,
    send: Step,
    carrier: Any,
    rows: Rows,
    execute: Any,
    database: Database,
    outbox_events: Events,
) -> None:
    await take_in(due())
    carrier.script.append(carrier.answer(500))
    sender = make_sender()
    await send(sender)
    await execute("UPDATE calls SET due_at = now(), ends_at = now()")
    await loops.settle_calls(database, sender)
    (message,) = await rows("SELECT * FROM messages")
    assert (message.status, message.category) == ("failed", "outcome_unknown")
    assert await taken(rows) == 1
    assert len(carrier.requests) == 1
    assert not await rows("SELECT key FROM calls")
    assert [event.category for event in await outbox_events(database)] == ["outcome_unknown"]


async def test_an_unknown_call_is_not_repeated_to_somebody_who_has_stopped_since(
    due: Due,
    take_in: TakeIn,
    make_sender: MakeSender,
    send: Step,
    repeat: Step,
    carrier: Any,
    rows: Rows,
    execute: Any,
    organisation: str,
) -> None:
    await take_in(due(), due(phone="+61453000002"))
    carrier.script.append(carrier.answer(500))
    sender = make_sender()
    await send(sender)
    await execute("INSERT INTO contact_opt_outs VALUES (:o, 5, '+61453000002', true, 1)", o=organisation)
    await repeat(sender)
    assert len(carrier.requests) == 1
    (call,) = await rows("SELECT due_at = ends_at AS waits FROM calls")
    assert call.waits


async def test_a_lease_that_ran_out_makes_the_call_unknown_and_the_late_answer_still_counts(
    due: Due,
    take_in: TakeIn,
    make_sender: MakeSender,
    claim: Step,
    carrier: Any,
    statuses: Statuses,
    database: Database,
    execute: Any,
    eventually: Any,
    rows: Rows,
) -> None:
    await take_in(due())
    carrier.script.append(carrier.take_and_wait)
    sender = make_sender()
    await claim(sender)
    await execute("UPDATE calls SET due_at = now()")
    await loops.settle_calls(database, sender)
    assert await statuses() == ["unknown"]
    carrier.release.set()
    await loops.drain(database, sender)
    assert await statuses() == ["sent"]
    assert not await rows("SELECT key FROM calls")


async def test_a_late_refusal_does_not_free_what_a_repetition_is_sending(
    due: Due,
    take_in: TakeIn,
    make_sender: MakeSender,
    claim: Step,
    carrier: Any,
    statuses: Statuses,
    database: Database,
    execute: Any,
    outbox_events: Events,
) -> None:
    late = asyncio.Event()

    async def refuse_late(request: Any, body: Any) -> Any:
        await late.wait()
        return await carrier.answer(429, "busy")(request, body)

    await take_in(due())
    carrier.script += [refuse_late, carrier.take_and_wait]
    slow, repeating = make_sender(), make_sender()
    await claim(slow)
    for _ in range(2):  # the lease runs out, then the call is repeated by another
        await execute("UPDATE calls SET due_at = now()")
        await loops.settle_calls(database, repeating)
    late.set()
    await loops.drain(database, slow)
    assert await statuses() == ["sending"]
    carrier.release.set()
    await loops.drain(database, repeating)
    assert await statuses() == ["sent"]
    assert len(await outbox_events(database)) == 1
    assert len(carrier.taken) == 1


async def test_a_carrier_that_never_answers_is_given_up_and_asked_again(
    due: Due, take_in: TakeIn, make_sender: MakeSender, send: Step, repeat: Step, carrier: Any, statuses: Statuses
) -> None:
    await take_in(due())
    carrier.script.append(carrier.take_and_wait)
    sender = make_sender(request_timeout_s=0.3)
    await send(sender)
    assert await statuses() == ["unknown"]
    await repeat(sender)
    assert await statuses() == ["sent"]
    assert len(carrier.taken) == 1


async def test_without_a_connection_the_message_waits_and_no_attempt_is_lost(
    due: Due, take_in: TakeIn, make_sender: MakeSender, send: Step, rows: Rows
) -> None:
    await take_in(due())
    sender = make_sender(mobile_message_base_url="http://127.0.0.1:9")
    await send(sender)
    (message,) = await rows("SELECT * FROM messages")
    assert (message.status, message.attempts, message.category) == ("queued", 0, "provider_unavailable")
    assert await taken(rows) == 1


async def test_a_fault_of_the_account_keeps_the_message_until_it_is_mended(
    due: Due,
    take_in: TakeIn,
    make_sender: MakeSender,
    send: Step,
    carrier: Any,
    rows: Rows,
    clock: Any,
    statuses: Statuses,
    database: Database,
    execute: Any,
    outbox_events: Any,
) -> None:
    await take_in(due())
    sender = make_sender()
    carrier.script += [carrier.answer(403, json.dumps({"error": "Insufficient credits."}))] * 6
    for _ in range(6):
        await send(sender)
        await send(sender)
        await execute("UPDATE messages SET next_attempt_at = now()")
        await loops.queue_retries(database, [sender])
        clock.advance(301)
    (message,) = await rows("SELECT * FROM messages")
    assert (message.status, message.category, message.attempts) == ("queued", "account_error", 0)
    assert len(carrier.requests) == 6, "none while the breaker is open"
    told = await outbox_events(database)
    assert {(type(event), event.category) for event in told} == {(MessageDelayed, "account_error")}
    for _ in range(2):  # the first looks for another organisation's message
        await send(sender)
    assert await statuses() == ["sent"]


async def test_a_message_that_always_meets_the_accounts_fault_keeps_nobody_from_their_provider(
    due: Due, take_in: TakeIn, make_sender: MakeSender, send: Step, carrier: Any, clock: Any, statuses: Statuses
) -> None:
    await take_in(due(), due())
    sender = make_sender(mobile_message_batch_size=1, mobile_message_concurrency=1)
    carrier.script.append(carrier.answer(403, json.dumps({"error": "Not for this message."})))
    await send(sender)
    clock.advance(31)
    for _ in range(2):  # the first looks for another organisation's message
        await send(sender)
    assert await statuses() == ["retry_wait", "sent"]
    assert sender.breaker.state == "closed"


async def test_who_stopped_between_intake_and_claim_is_not_written_to(
    due: Due,
    take_in: TakeIn,
    make_sender: MakeSender,
    send: Step,
    carrier: Any,
    rows: Rows,
    execute: Any,
    organisation: str,
) -> None:
    await take_in(due(contact_id=5), due(organisation_id="org_closed"), due())
    await execute("INSERT INTO contact_opt_outs VALUES (:o, 5, '+61453000009', true, 1)", o=organisation)
    await execute("INSERT INTO organisations VALUES ('org_closed', true, 1)")
    await send(make_sender())
    found = [(row.status, row.category) for row in await rows("SELECT * FROM messages ORDER BY id")]
    assert found == [("failed", "opted_out"), ("failed", "blocked"), ("sent", None)]
    assert await taken(rows) == 1
    assert len(carrier.taken) == 1


async def test_a_message_past_its_deadline_is_not_sent(
    due: Due, take_in: TakeIn, make_sender: MakeSender, send: Step, carrier: Any, rows: Rows
) -> None:
    await take_in(due(scheduled_time=datetime.now(UTC) - timedelta(days=1, seconds=1)))
    await send(make_sender())
    (message,) = await rows("SELECT * FROM messages")
    assert (message.status, message.category) == ("failed", "expired")
    assert await taken(rows) == 0
    assert not carrier.requests


async def test_a_number_of_fiction_is_never_handed_to_the_real_vendor(
    due: Due, take_in: TakeIn, make_sender: MakeSender, send: Step, rows: Rows
) -> None:
    await take_in(due(phone="+61491570006"))
    await send(make_sender(mobile_message_base_url="https://api.mobilemessage.com.au"))
    (message,) = await rows("SELECT * FROM messages")
    assert (message.status, message.category, message.attempts) == ("failed", "invalid_number", 0)


async def test_the_request_that_set_a_message_off_is_named_to_the_carrier_the_second_time_too(
    due: Due, take_in: TakeIn, make_sender: MakeSender, send: Step, repeat: Step, carrier: Any, statuses: Statuses
) -> None:
    await take_in(due(request_id="req-7"))
    carrier.script.append(carrier.take_and_wait)
    sender = make_sender(request_timeout_s=0.3)
    await send(sender)
    await repeat(sender)
    assert await statuses() == ["sent"]
    assert carrier.request_ids == ["req-7", "req-7"]


async def test_a_call_whose_messages_were_set_off_by_several_requests_names_none(
    due: Due, take_in: TakeIn, make_sender: MakeSender, send: Step, carrier: Any
) -> None:
    await take_in(due(request_id="req-7"), due(request_id="req-8"))
    await send(make_sender(mobile_message_batch_size=100))
    assert carrier.request_ids == [""]
