"""What is told and kept of an outcome: delays, stops that a provider knows of, answers that come after a receipt."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from common.database import Database
from common.events import MessageDelayed, MessageFailed, MessageSent, ScheduleDue, StopChanged
from delivery.messages import loops
from delivery.messages.rules import Policy
from delivery.messages.sender import Sender

Due = Callable[..., ScheduleDue]
Rows = Callable[..., Awaitable[list[Any]]]
Step = Callable[[Sender], Awaitable[None]]
MakeSender = Callable[..., Sender]
BLOCKED = {"status": "blocked", "cost": 0}
OUR_ANSWER = """
    INSERT INTO messages (organisation_id, run, phone, text, format, units, scheduled_time, period, lane, request_id,
                          deadline, answers)
    VALUES (:o, 1, '+61453000001', 'You will get no more messages.', 'sms', 1, now(), '2026-04-01', 'single', '',
            now() + interval '1 day', 77)
"""
STOP = "INSERT INTO stops VALUES (:o, '+61453000001', true, now(), 'reply', NULL, nextval('stop_versions'))"


async def test_a_wait_is_told_and_the_outcome_after_it_is_newer(
    due: Due,
    take_in: Any,
    make_sender: MakeSender,
    send: Step,
    carrier: Any,
    rows: Rows,
    database: Database,
    execute: Any,
    outbox_events: Any,
) -> None:
    await take_in(due())
    carrier.script.append(carrier.answer(429, "busy", **{"Retry-After": "30"}))
    sender = make_sender()
    await send(sender)
    (delayed,) = await outbox_events(database)
    (message,) = await rows("SELECT * FROM messages")
    assert isinstance(delayed, MessageDelayed)
    assert (delayed.version, delayed.attempts, delayed.category) == (1, 0, "rate_limited")
    assert delayed.next_attempt_at == message.next_attempt_at
    await execute("UPDATE messages SET next_attempt_at = now()")
    await loops.queue_retries(database, [sender])
    await send(sender)
    assert [(type(event), event.version) for event in await outbox_events(database)][1:] == [(MessageSent, 2)]


async def test_a_wait_that_is_over_at_once_is_not_told(
    due: Due,
    take_in: Any,
    make_sender: MakeSender,
    send: Step,
    carrier: Any,
    statuses: Any,
    database: Database,
    outbox_events: Any,
    policy: Policy,
) -> None:
    await take_in(due())
    carrier.script.append(carrier.answer(429, "busy", **{"Retry-After": "1"}))
    sender = make_sender()
    sender.policy = policy.model_copy(update={"retry_base_s": 15})
    await send(sender)
    assert await statuses() == ["retry_wait"]
    assert not await outbox_events(database)


async def test_a_refusal_for_having_stopped_is_learned(
    due: Due,
    take_in: Any,
    make_sender: MakeSender,
    send: Step,
    carrier: Any,
    rows: Rows,
    database: Database,
    outbox_events: Any,
    organisation: str,
) -> None:
    await take_in(due())
    carrier.script.append(carrier.verdicts(BLOCKED))
    await send(make_sender())
    stopped, failed = await outbox_events(database)
    assert isinstance(failed, MessageFailed)
    assert isinstance(stopped, StopChanged)
    assert (stopped.organisation_id, stopped.phone, stopped.stopped, stopped.source) == (
        organisation,
        "+61453000001",
        True,
        "provider",
    )
    await take_in(due(), due(organisation_id="org_other"))
    found = await rows("SELECT status, category FROM messages ORDER BY id")
    assert [(row.status, row.category) for row in found][1:] == [("failed", "opted_out"), ("queued", None)]
    assert len(carrier.requests) == 1


async def test_a_stop_beats_a_message_that_is_queued_and_our_answer_to_it_still_goes(
    due: Due,
    take_in: Any,
    make_sender: MakeSender,
    send: Step,
    carrier: Any,
    rows: Rows,
    execute: Any,
    organisation: str,
    database: Database,
    outbox_events: Any,
) -> None:
    await take_in(due())
    await execute(STOP, o=organisation)
    await execute(OUR_ANSWER, o=organisation)
    await send(make_sender())
    found = await rows("SELECT status, category FROM messages ORDER BY id")
    assert [(row.status, row.category) for row in found] == [("failed", "opted_out"), ("sent", None)]
    assert [item["message"] for item in carrier.taken] == ["You will get no more messages."]
    assert [type(event) for event in await outbox_events(database)] == [MessageFailed], "no schedule waits for ours"


@pytest.mark.parametrize("status", ["sent", "delivered", "failed"])
async def test_an_acceptance_that_comes_after_the_receipt_only_adds_the_providers_id(
    due: Due,
    take_in: Any,
    make_sender: MakeSender,
    claim: Step,
    carrier: Any,
    rows: Rows,
    execute: Any,
    database: Database,
    outbox_events: Any,
    eventually: Any,
    status: str,
) -> None:
    await take_in(due())
    carrier.script.append(carrier.take_and_wait)
    sender = make_sender()
    await claim(sender)

    async def is_taken() -> bool:
        return bool(carrier.taken)

    await eventually(is_taken)
    await execute("UPDATE messages SET status = :status, version = 1", status=status)
    carrier.release.set()
    await loops.drain(database, sender)
    (message,) = await rows("SELECT * FROM messages")
    assert (message.status, message.version, message.provider_message_id) == (status, 1, f"mm-{message.id}")
    assert not await outbox_events(database)
    assert not await rows("SELECT key FROM calls")


async def test_calls_of_a_provider_that_is_gone_end_with_their_window(
    due: Due,
    take_in: Any,
    make_sender: MakeSender,
    claim: Step,
    carrier: Any,
    rows: Rows,
    execute: Any,
    database: Database,
    policy: Policy,
    statuses: Any,
) -> None:
    await take_in(due(), due())
    carrier.script.append(carrier.take_and_wait)
    sender = make_sender(mobile_message_batch_size=100)
    await claim(sender)
    await execute("UPDATE calls SET provider = 'gone', due_at = now()")
    await loops.settle_strangers(database, ["mobile_message"], policy)
    assert await statuses() == ["unknown", "unknown"]
    (call,) = await rows("SELECT due_at = ends_at AS waits FROM calls")
    assert call.waits
    await execute("UPDATE calls SET due_at = now(), ends_at = now()")
    await loops.settle_strangers(database, ["mobile_message"], policy)
    found = await rows("SELECT DISTINCT status, category FROM messages")
    assert [(row.status, row.category) for row in found] == [("failed", "outcome_unknown")]
    assert not await rows("SELECT key FROM calls")


@pytest.mark.parametrize(("heard_by", "status"), [("mobile_message", "sent"), ("twilio", "unknown")])
async def test_who_said_stop_to_the_provider_holds_up_no_repetition_for_the_others(
    due: Due,
    take_in: Any,
    make_sender: MakeSender,
    send: Step,
    repeat: Step,
    carrier: Any,
    execute: Any,
    statuses: Any,
    organisation: str,
    heard_by: str,
    status: str,
) -> None:
    await take_in(due(), due(phone="+61453000002"))
    carrier.script.append(carrier.answer(500))
    sender = make_sender()
    await send(sender)
    await execute(
        "INSERT INTO inbound_messages (id, organisation_id, phone, to_number, text, received_at, provider)"
        " VALUES (99, :o, '+61453000001', '+61400000000', 'STOP', now(), :p)",
        o=organisation,
        p=heard_by,
    )
    await execute(STOP, o=organisation)
    await execute("UPDATE stops SET message_id = 99")
    await execute("INSERT INTO contact_opt_outs VALUES (:o, 5, '+61453000001', true, 1)", o=organisation)
    await repeat(sender)
    assert await statuses() == [status, status]


async def test_no_more_parts_go_than_the_providers_rate_allows_and_the_rest_stays_queued(
    due: Due,
    take_in: Any,
    make_sender: MakeSender,
    send: Step,
    carrier: Any,
    rows: Rows,
    clock: Any,
    statuses: Any,
) -> None:
    clock.stop()
    sender = make_sender(mobile_message_rate=5)
    await take_in(*(due(parts=2) for _ in range(5)), due(parts=9))
    await send(sender)
    assert await statuses() == ["sent"] * 2 + ["queued"] * 4
    assert {row.attempts for row in await rows("SELECT attempts FROM messages WHERE status = 'queued'")} == {0}
    for sent in (4, 5, 6):
        clock.advance(1)
        for _ in range(2):  # organisations take turns: the first may look behind the last one
            await send(sender)
        assert (await statuses()).count("sent") == sent
    clock.advance(0.9)
    await take_in(due())
    await send(sender)
    assert (await statuses())[-1] == "queued", "the large one left a debt"
    clock.advance(1)
    await send(sender)
    assert set(await statuses()) == {"sent"}


async def test_what_the_provider_bills_and_says_is_kept(
    due: Due, take_in: Any, make_sender: MakeSender, send: Step, carrier: Any, rows: Rows
) -> None:
    await take_in(due())
    carrier.script.append(carrier.verdicts({"status": "success", "message_id": "mm-1", "cost": 3}))
    await send(make_sender())
    (message,) = await rows("SELECT * FROM messages")
    assert (message.billed_parts, message.provider_status) == (3, "success")
