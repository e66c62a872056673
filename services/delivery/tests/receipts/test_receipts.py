"""Receipts find their message, early, late, repeated, in parts and in any order; statuses only climb."""

import asyncio
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest

from common.database import Database
from common.events import MessageDelivered, MessageFailed, MessageSent, ScheduleDue, OptOutChanged
from delivery.limits import service as limits
from delivery.messages.loops import drain
from delivery.receipts import service

Due = Callable[..., ScheduleDue]


async def test_a_delivery_is_applied_told_and_kept_with_its_words(
    tell: Any, apply: Any, sent: Any, due: Due, message: Any, outbox_events: Any, database: Database
) -> None:
    (number,) = await sent(due())
    receipt = {"status": "delivered", "reference": number, "occurred_at": "2026-04-04T16:30:00+00:00"}
    await tell("receipts", {**receipt, "raw": "DELIVRD", "billed_parts": 2})
    await apply()
    row = await message(number)
    assert (row.status, row.provider_status, row.billed_parts, row.version) == ("delivered", "DELIVRD", 2, 2)
    assert row.delivered_time.isoformat() == "2026-04-04T16:30:00+00:00"
    told = await outbox_events(database)
    assert [type(event) for event in told] == [MessageSent, MessageDelivered]
    assert (told[1].version, told[1].delivered_time, told[1].sent_time) == (2, row.delivered_time, row.sent_time)


async def test_in_every_order_and_however_often_the_highest_status_stays(
    tell: Any, apply: Any, sent: Any, due: Due, message: Any, outbox_events: Any, database: Database
) -> None:
    orders = list(permutations(("sent", "failed", "delivered")))
    ids = await sent(*(due() for _ in orders))
    for number, order in zip(ids, orders, strict=True):
        for status in (*order, *order):
            await tell("receipts", {"id": f"{number}-{status}", "status": status, "reference": number})
            await apply()
    assert {(await message(number)).status for number in ids} == {"delivered"}
    told = [e for e in await outbox_events(database) if not isinstance(e, MessageSent)]
    for number in ids:
        versions = [event.version for event in told if event.message_id == number]
        assert versions == sorted(set(versions))
    assert len(told) == len(ids) + sum(order.index("failed") < order.index("delivered") for order in orders)


async def test_parts_are_delivered_when_all_are_and_failed_when_one_is(
    tell: Any, apply: Any, sent: Any, due: Due, message: Any
) -> None:
    whole, broken, mended = await sent(due(parts=2), due(parts=2), due(parts=2))
    for number in (whole, broken, mended):
        part = {"status": "delivered", "reference": number, "part": 2, "of_parts": 2}
        await tell("receipts", part, {**part, "status": "sent", "part": 1})
    await apply()
    assert [(await message(n)).status for n in (whole, broken, mended)] == ["sent"] * 3
    for number in (broken, mended):
        failed = {"status": "failed", "reference": number, "part": 1, "of_parts": 2, "category": "unroutable"}
        await tell("receipts", {**failed, "error": "No such subscriber."})
    await apply()
    assert (await message(broken)).error == "No such subscriber."
    for number in (whole, mended):
        await tell("receipts", {"status": "delivered", "reference": number, "part": 1, "of_parts": 2})
    await apply()
    found = [await message(n) for n in (whole, broken, mended)]
    assert [(row.status, row.failure_category) for row in found] == [
        ("delivered", None),
        ("failed", "unroutable"),
        ("delivered", None),
    ]


async def test_what_fails_after_it_was_sent_keeps_its_place_and_the_ledger_agrees(
    tell: Any, apply: Any, sent: Any, due: Due, message: Any, rows: Any, outbox_events: Any, database: Database
) -> None:
    (number,) = await sent(due(parts=3))
    await tell("receipts", {"status": "failed", "reference": number, "category": "blocked", "error": "Spam."})
    await apply()
    row = await message(number)
    assert (row.status, row.failure_category, row.error) == ("failed", "blocked", "Spam.")
    assert [r.taken for r in await rows("SELECT taken FROM limits")] == [3]
    async with database.all_tenants() as session:
        assert not await limits.find_drift(session, row.period)
    assert [type(event) for event in await outbox_events(database)] == [MessageSent, MessageFailed]


async def test_a_providers_opted_out_is_learned_as_a_stop(
    tell: Any, apply: Any, sent: Any, due: Due, rows: Any, outbox_events: Any, database: Database
) -> None:
    (number,) = await sent(due())
    await tell("receipts", {"status": "failed", "reference": number, "category": "opted_out"})
    await apply()
    assert [(r.stopped, r.source) for r in await rows("SELECT stopped, source FROM stops")] == [(True, "provider")]
    assert isinstance((await outbox_events(database))[-1], OptOutChanged)


async def test_a_receipt_that_another_version_of_this_program_wrote_holds_up_no_later_one(
    tell: Any, apply: Any, sent: Any, due: Due, message: Any, execute: Any
) -> None:
    (number,) = await sent(due())
    for is_applied in (True, False):
        await tell("receipts", {"status": "sent", "reference": number})
        if is_applied:
            await apply()
        await execute("UPDATE notices SET body = '{}'")
    await tell("receipts", {"status": "delivered", "reference": number})
    await apply()
    assert (await message(number)).status == "delivered"


async def test_a_receipt_that_is_quicker_than_our_commit_settles_message_and_call(
    tell: Any,
    apply: Any,
    claim: Any,
    make_sender: Any,
    take_in: Any,
    due: Due,
    carrier: Any,
    rows: Any,
    message: Any,
    database: Database,
) -> None:
    carrier.script.append(carrier.take_and_wait)
    await take_in(due())
    sender = make_sender()
    await claim(sender)
    (row,) = await rows("SELECT id, status FROM messages")
    assert row.status == "sending"
    await tell("receipts", {"status": "sent", "reference": row.id})
    await apply()
    assert (await message(row.id)).status == "sent"
    assert await rows("SELECT 1 FROM calls") == [], "nothing is left to be repeated after a crash"
    await tell("receipts", {"status": "delivered", "reference": row.id})
    await apply()
    carrier.release.set()
    await drain(database, sender)
    after = await message(row.id)
    assert (after.status, after.provider_message_id) == ("delivered", f"mm-{row.id}")


async def test_an_unknown_outcome_is_settled_and_a_lost_one_put_right(
    tell: Any, apply: Any, send: Any, make_sender: Any, take_in: Any, due: Due, carrier: Any, rows: Any, execute: Any
) -> None:
    carrier.script.append(carrier.take_and_reset)
    await take_in(due())
    await send(make_sender())
    (row,) = await rows("SELECT id, status FROM messages")
    assert row.status == "unknown"
    await execute("UPDATE messages SET status = 'failed', category = 'outcome_unknown', error = 'x', version = 1")
    await tell("receipts", {"status": "sent", "reference": row.id})
    await apply()
    assert (await rows("SELECT status FROM messages"))[0].status == "failed", "a status climbs only"
    await tell("receipts", {"status": "delivered", "reference": row.id})
    await apply()
    (row,) = await rows("SELECT status, category, error, version, sent_time FROM messages")
    assert (row.status, row.failure_category, row.error, row.version) == ("delivered", None, None, 2)
    assert row.sent_time is not None


async def test_what_waits_to_go_again_but_was_taken_is_not_sent_twice(
    tell: Any, apply: Any, send: Any, make_sender: Any, take_in: Any, due: Due, carrier: Any, execute: Any, rows: Any
) -> None:
    carrier.script.append(carrier.answer(429, "wait"))
    await take_in(due())
    sender = make_sender()
    await send(sender)
    (row,) = await rows("SELECT id, status FROM messages")
    assert row.status == "retry_wait"
    await tell("receipts", {"status": "failed", "reference": row.id})
    await apply()
    assert (await rows("SELECT status FROM messages"))[0].status == "retry_wait"
    await tell("receipts", {"status": "delivered", "reference": row.id})
    await apply()
    assert [r.status for r in await rows("SELECT status, next_attempt_at FROM messages")] == ["delivered"]


@pytest.mark.parametrize("spelling", ["AB-{0}-EF", "ab-{0}-ef", "00ab-{0}-ef", "000AB-{0}-EF"])
async def test_the_providers_id_finds_the_message_however_it_is_written(
    tell: Any, apply: Any, sent: Any, due: Due, message: Any, execute: Any, spelling: str
) -> None:
    (number,) = await sent(due())
    await execute("UPDATE messages SET provider_message_id = :id", id=f"ab-{number}-ef")
    await tell("receipts", {"status": "delivered", "provider_message_id": spelling.format(number)})
    await apply()
    assert (await message(number)).status == "delivered"


async def test_another_providers_receipt_finds_nothing_of_ours(
    tell: Any, apply: Any, sent: Any, due: Due, message: Any, execute: Any
) -> None:
    (number,) = await sent(due())
    await execute("UPDATE messages SET provider = 'twilio'")
    told = {"status": "delivered", "reference": number, "provider_message_id": f"mm-{number}"}
    await tell("receipts", told)
    await apply()
    assert (await message(number)).status == "sent"


@pytest.mark.parametrize("case", ["another message's id", "told before ours was there"])
async def test_a_receipt_of_another_system_on_the_account_finds_nothing_of_ours(
    tell: Any, apply: Any, sent: Any, due: Due, message: Any, execute: Any, case: str
) -> None:
    (number,) = await sent(due())
    told = {"status": "failed", "reference": number}
    await tell("receipts", told | ({"provider_message_id": f"xx-{number}"} if case.startswith("another") else {}))
    if case.startswith("told"):
        await execute("UPDATE notices SET received_at = now() - interval '1 hour'")
    await apply()
    assert (await message(number)).status == "sent"


async def test_what_finds_nothing_is_kept_looked_at_again_and_given_up_after_three_days(
    tell: Any, apply: Any, sent: Any, due: Due, message: Any, execute: Any, rows: Any
) -> None:
    await tell("receipts", {"status": "delivered", "provider_message_id": "strange"})
    await tell("receipts", {"status": "delivered", "provider_message_id": "never"})
    await apply()
    await apply()
    waiting = await rows("SELECT looks, due_at > now() AS later, due_at - now() < '2 s' AS soon FROM notices")
    assert [(row.looks, row.later, row.soon) for row in waiting] == [(1, True, True)] * 2
    (number,) = await sent(due())
    await execute("UPDATE messages SET provider_message_id = 'strange'")
    await execute("UPDATE notices SET due_at = now(), looks = 30")
    await apply()
    assert (await message(number)).status == "delivered"
    (row,) = await rows("SELECT due_at - now() AS pause FROM notices WHERE due_at IS NOT NULL")
    assert 3500 < row.pause.total_seconds() <= 3600
    await execute(
        "UPDATE notices SET due_at = now(), received_at = now() - interval '73 hours' WHERE message_id IS NULL"
    )
    await apply()
    assert [row.message_id for row in await rows("SELECT message_id FROM notices WHERE due_at IS NULL")] == [
        number,
        None,
    ]


async def test_a_clock_that_is_ahead_delivers_nothing_in_the_future(
    tell: Any, apply: Any, sent: Any, due: Due, message: Any, rows: Any
) -> None:
    (number,) = await sent(due())
    await tell("receipts", {"status": "delivered", "reference": number, "occurred_at": "2999-01-01T00:00:00+00:00"})
    await apply()
    (notice,) = await rows("SELECT received_at FROM notices")
    assert (await message(number)).delivered_time == notice.received_at


async def test_parts_that_two_workers_apply_at_once_are_weighed_together(
    tell: Any,
    apply: Any,
    sent: Any,
    due: Due,
    message: Any,
    outbox_events: Any,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "BATCH", 7)  # so that the parts of a message are in several hands
    ids = await sent(*(due(parts=3) for _ in range(20)))
    for part in (1, 2, 3):
        told = [{"status": "delivered", "reference": number, "part": part, "of_parts": 3} for number in ids]
        await tell("receipts", *told)
    while any(await asyncio.gather(*(apply() for _ in range(4)))):
        pass
    assert {(await message(number)).status for number in ids} == {"delivered"}
    told = [event.message_id for event in await outbox_events(database) if isinstance(event, MessageDelivered)]
    assert sorted(told) == ids


async def test_one_that_the_database_refuses_holds_up_no_other(
    tell: Any, apply: Any, sent: Any, due: Due, message: Any, execute: Any, rows: Any
) -> None:
    before, refused, after = await sent(due(), due(), due())
    for number in (before, refused, after):
        await tell("receipts", {"status": "delivered", "reference": number})
    never = '{"occurred_at": "0001-01-01T00:00:00+14:00"}'  # before the first moment that a timestamp can be
    await execute(
        "UPDATE notices SET body = body || CAST(:never AS jsonb) WHERE reference = :id", never=never, id=refused
    )
    await apply()
    assert [(await message(n)).status for n in (before, refused, after)] == ["delivered", "sent", "delivered"]
    (kept,) = await rows("SELECT looks, due_at > now() AS waits FROM notices WHERE due_at IS NOT NULL")
    assert (kept.looks, kept.waits) == (1, True)
