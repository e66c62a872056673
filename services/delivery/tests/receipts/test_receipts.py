"""Delivery receipts match their message and change its status, in any order; a status never moves backwards."""

import asyncio
from itertools import permutations
from typing import Any

import pytest

from common.events import MessageDelivered, MessageFailed, MessageSent, OptOutChanged
from common.metrics import REGISTRY
from delivery.limits import service as limits
from delivery.receipts import service
from delivery.sending.loops import drain
from services.delivery.tests.webhook_stage import WebhookStage


async def test_a_delivered_receipt_is_applied_and_published_with_the_providers_status(stage: WebhookStage) -> None:
    (message_id,) = await stage.sent(stage.due())
    receipt = {"status": "delivered", "reference": message_id, "occurred_at": "2026-04-04T16:30:00+00:00"}
    await stage.receive("receipts", {**receipt, "raw": "DELIVRD", "billed_parts": 2})
    row = await stage.get(message_id)
    assert (row.status, row.provider_status, row.billed_parts, row.version) == ("delivered", "DELIVRD", 2, 2)
    assert row.delivered_time.isoformat() == "2026-04-04T16:30:00+00:00"
    events = await stage.events()
    assert [type(event) for event in events] == [MessageSent, MessageDelivered]
    assert (events[1].version, events[1].delivered_time, events[1].sent_time) == (2, row.delivered_time, row.sent_time)


async def test_a_receipt_is_counted_with_its_delay(stage: WebhookStage) -> None:
    (message_id,) = await stage.sent(stage.due())
    await stage.execute("UPDATE messages SET sent_time = sent_time - interval '2 hours'")
    provider = (await stage.get(message_id)).provider
    delay = {"provider": provider}
    delivered = {"provider": provider, "outcome": "delivered", "failure_category": "-"}
    before = [
        REGISTRY.get_sample_value("cooee_receipt_delay_seconds_sum", delay) or 0.0,
        REGISTRY.get_sample_value("cooee_messages_total", delivered) or 0.0,
    ]
    await stage.receive("receipts", {"status": "delivered", "reference": message_id})
    assert (REGISTRY.get_sample_value("cooee_receipt_delay_seconds_sum", delay) or 0.0) >= before[0] + 7200
    assert REGISTRY.get_sample_value("cooee_messages_total", delivered) == before[1] + 1


async def test_in_any_order_and_repeated_the_highest_status_counts(stage: WebhookStage) -> None:
    orders = list(permutations(("sent", "failed", "delivered")))
    ids = await stage.sent(*(stage.due() for _ in orders))
    for message_id, order in zip(ids, orders, strict=True):
        for status in (*order, *order):
            await stage.receive("receipts", {"id": f"{message_id}-{status}", "status": status, "reference": message_id})
    assert set(await stage.status_of(*ids)) == {"delivered"}
    events = [event for event in await stage.events() if not isinstance(event, MessageSent)]
    for message_id in ids:
        versions = [event.version for event in events if event.message_id == message_id]
        assert versions == sorted(set(versions))
    corrected = sum(order.index("failed") < order.index("delivered") for order in orders)
    assert len(events) == len(ids) + corrected


async def test_a_message_is_delivered_when_all_parts_are_and_failed_when_one_is(stage: WebhookStage) -> None:
    whole, broken, corrected = ids = await stage.sent(*(stage.due(parts=2) for _ in range(3)))
    for message_id in ids:
        part = {"status": "delivered", "reference": message_id, "part": 2, "of_parts": 2}
        await stage.post("receipts", part, {**part, "status": "sent", "part": 1})
    await stage.apply()
    assert await stage.status_of(*ids) == ["sent"] * 3
    for message_id in (broken, corrected):
        failed = {"status": "failed", "reference": message_id, "part": 1, "of_parts": 2}
        await stage.post("receipts", {**failed, "failure_category": "unroutable", "error": "No such subscriber."})
    await stage.apply()
    sentence = "The recipient's network or phone cannot be reached."
    assert (await stage.get(broken)).error == f"{sentence} The provider says: No such subscriber."
    for message_id in (whole, corrected):
        await stage.post("receipts", {"status": "delivered", "reference": message_id, "part": 1, "of_parts": 2})
    await stage.apply()
    found = [await stage.get(message_id) for message_id in ids]
    assert [(row.status, row.failure_category) for row in found] == [
        ("delivered", None),
        ("failed", "unroutable"),
        ("delivered", None),
    ]


async def test_a_message_that_fails_after_it_was_sent_keeps_its_parts(stage: WebhookStage) -> None:
    (message_id,) = await stage.sent(stage.due(parts=3))
    receipt = {"status": "failed", "reference": message_id, "failure_category": "blocked", "error": "Spam."}
    await stage.receive("receipts", receipt)
    row = await stage.get(message_id)
    assert (row.status, row.failure_category) == ("failed", "blocked")
    assert row.error == "The recipient's network or phone blocks this message. The provider says: Spam."
    assert await stage.usage() == 3
    async with stage.database.all_tenants() as session:
        assert not await limits.find_drift(session, row.period)
    assert [type(event) for event in await stage.events()] == [MessageSent, MessageFailed]


async def test_an_opt_out_that_the_provider_reports_is_added(stage: WebhookStage) -> None:
    (message_id,) = await stage.sent(stage.due())
    receipt = {"status": "failed", "reference": message_id, "failure_category": "opted_out"}
    await stage.receive("receipts", receipt)
    rows = await stage.rows("SELECT opted_out, source FROM opt_outs")
    assert [(row.opted_out, row.source) for row in rows] == [(True, "provider")]
    assert isinstance((await stage.events())[-1], OptOutChanged)


async def test_an_unreadable_stored_receipt_does_not_block_a_later_one(stage: WebhookStage) -> None:
    (message_id,) = await stage.sent(stage.due())
    for is_applied in (True, False):
        await stage.post("receipts", {"status": "sent", "reference": message_id})
        if is_applied:
            await stage.apply()
        await stage.execute("UPDATE webhook_events SET body = '{}'")
    await stage.receive("receipts", {"status": "delivered", "reference": message_id})
    assert await stage.status_of(message_id) == ["delivered"]


async def test_a_receipt_before_our_commit_of_the_answer_resolves_message_and_submission(stage: WebhookStage) -> None:
    stage.provider.script.append(stage.provider.accept_and_wait)
    await stage.add_due(stage.due())
    worker = stage.make_worker()
    await stage.claim(worker)
    message = await stage.message()
    assert message.status == "sending"
    await stage.receive("receipts", {"status": "sent", "reference": message.id})
    assert await stage.status_of(message.id) == ["sent"]
    assert await stage.rows("SELECT 1 FROM submissions") == [], "nothing is left to be resent after a crash"
    await stage.receive("receipts", {"status": "delivered", "reference": message.id})
    stage.provider.release.set()
    await drain(stage.database, worker)
    after = await stage.get(message.id)
    assert (after.status, after.provider_message_id) == ("delivered", f"mm-{message.id}")


async def test_an_unknown_outcome_is_resolved_and_a_given_up_message_can_still_be_delivered(
    stage: WebhookStage,
) -> None:
    stage.provider.script.append(stage.provider.accept_and_reset)
    await stage.add_due(stage.due())
    await stage.send(stage.make_worker())
    message = await stage.message()
    assert message.status == "unknown"
    await stage.execute(
        "UPDATE messages SET status = 'failed', failure_category = 'outcome_unknown', error = 'x', version = 1"
    )
    await stage.receive("receipts", {"status": "sent", "reference": message.id})
    assert await stage.status_of(message.id) == ["failed"], "a status never moves backwards"
    await stage.receive("receipts", {"status": "delivered", "reference": message.id})
    row = await stage.get(message.id)
    assert (row.status, row.failure_category, row.error, row.version) == ("delivered", None, None, 2)
    assert row.sent_time is not None


async def test_a_message_that_waits_for_a_retry_but_was_accepted_is_not_sent_again(stage: WebhookStage) -> None:
    stage.provider.script.append(stage.provider.answer(429, "wait"))
    await stage.add_due(stage.due())
    await stage.send(stage.make_worker())
    message = await stage.message()
    assert message.status == "retry_wait"
    await stage.receive("receipts", {"status": "failed", "reference": message.id})
    assert await stage.status_of(message.id) == ["retry_wait"]
    await stage.receive("receipts", {"status": "delivered", "reference": message.id})
    row = await stage.get(message.id)
    assert (row.status, row.next_attempt_at) == ("delivered", None)


@pytest.mark.parametrize("spelling", ["AB-{0}-EF", "ab-{0}-ef", "00ab-{0}-ef", "000AB-{0}-EF"])
async def test_the_providers_id_matches_in_any_spelling(stage: WebhookStage, spelling: str) -> None:
    (message_id,) = await stage.sent(stage.due())
    await stage.execute("UPDATE messages SET provider_message_id = :id", id=f"ab-{message_id}-ef")
    await stage.receive("receipts", {"status": "delivered", "provider_message_id": spelling.format(message_id)})
    assert await stage.status_of(message_id) == ["delivered"]


@pytest.mark.parametrize(
    ("stored", "given", "expected"),
    [
        (["0012-aB"], "12-ab", ["delivered"]),
        (["12-aB"], "0012-Ab", ["delivered"]),
        (["0012", "012"], "12", ["sent", "sent"]),  # either could be meant
        (["0012", "012"], "012", ["sent", "delivered"]),
        (["0012", "12"], "00012", ["sent", "sent"]),
        (["0012", "0013"], "12", ["delivered", "sent"]),
        (["1200"], "12", ["sent"]),
        (["0012"], "0", ["sent"]),
    ],
)
async def test_an_id_without_its_leading_zeros_matches_if_it_is_unambiguous(
    stage: WebhookStage, stored: list[str], given: str, expected: list[str]
) -> None:
    ids = await stage.sent(*(stage.due() for _ in stored))
    for message_id, provider_message_id in zip(ids, stored, strict=True):
        await stage.execute(
            "UPDATE messages SET provider_message_id = :given WHERE id = :id", given=provider_message_id, id=message_id
        )
    await stage.receive("receipts", {"status": "delivered", "provider_message_id": given})
    assert await stage.status_of(*ids) == expected


async def test_a_receipt_of_another_provider_matches_nothing(stage: WebhookStage) -> None:
    (message_id,) = await stage.sent(stage.due())
    await stage.execute("UPDATE messages SET provider = 'twilio'")
    receipt = {"status": "delivered", "reference": message_id, "provider_message_id": f"mm-{message_id}"}
    await stage.receive("receipts", receipt)
    assert await stage.status_of(message_id) == ["sent"]


@pytest.mark.parametrize("case", ["another id of the provider", "older than our message"])
async def test_a_receipt_of_another_system_on_the_account_matches_nothing(stage: WebhookStage, case: str) -> None:
    (message_id,) = await stage.sent(stage.due())
    receipt: dict[str, Any] = {"status": "failed", "reference": message_id}
    if case.startswith("another"):
        receipt["provider_message_id"] = f"xx-{message_id}"
    await stage.post("receipts", receipt)
    if case.startswith("older"):
        await stage.execute("UPDATE webhook_events SET received_at = now() - interval '1 hour'")
    await stage.apply()
    assert await stage.status_of(message_id) == ["sent"]


async def test_an_event_without_a_match_is_checked_again_and_given_up_after_three_days(stage: WebhookStage) -> None:
    await stage.post("receipts", {"status": "delivered", "provider_message_id": "strange"})
    await stage.post("receipts", {"status": "delivered", "provider_message_id": "never"})
    await stage.apply()
    await stage.apply()
    waiting = await stage.rows(
        "SELECT checks, due_at > now() AS later, due_at - now() < '2 s' AS soon FROM webhook_events"
    )
    assert [(row.checks, row.later, row.soon) for row in waiting] == [(1, True, True)] * 2
    (message_id,) = await stage.sent(stage.due())
    await stage.execute("UPDATE messages SET provider_message_id = 'strange'")
    await stage.execute("UPDATE webhook_events SET due_at = now(), checks = 30")
    await stage.apply()
    assert await stage.status_of(message_id) == ["delivered"]
    (row,) = await stage.rows("SELECT due_at - now() AS pause FROM webhook_events WHERE due_at IS NOT NULL")
    assert 3500 < row.pause.total_seconds() <= 3600
    await stage.execute(
        "UPDATE webhook_events SET due_at = now(), received_at = now() - interval '73 hours' WHERE message_id IS NULL"
    )
    await stage.apply()
    complete = await stage.rows("SELECT message_id FROM webhook_events WHERE due_at IS NULL ORDER BY id")
    assert [row.message_id for row in complete] == [message_id, None]


async def test_a_receipt_from_the_future_counts_from_its_arrival(stage: WebhookStage) -> None:
    (message_id,) = await stage.sent(stage.due())
    receipt = {"status": "delivered", "reference": message_id, "occurred_at": "2999-01-01T00:00:00+00:00"}
    await stage.receive("receipts", receipt)
    (event,) = await stage.rows("SELECT received_at FROM webhook_events")
    assert (await stage.get(message_id)).delivered_time == event.received_at


async def test_parts_that_two_workers_apply_at_once_count_together(
    stage: WebhookStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "BATCH", 7)  # so that the parts of a message are in several batches
    ids = await stage.sent(*(stage.due(parts=3) for _ in range(20)))
    for part in (1, 2, 3):
        receipts = [{"status": "delivered", "reference": one, "part": part, "of_parts": 3} for one in ids]
        await stage.post("receipts", *receipts)
    while any(await asyncio.gather(*(stage.apply() for _ in range(4)))):
        pass
    assert set(await stage.status_of(*ids)) == {"delivered"}
    delivered = [event.message_id for event in await stage.events() if isinstance(event, MessageDelivered)]
    assert sorted(delivered) == ids


async def test_an_event_that_the_database_refuses_does_not_block_the_others(stage: WebhookStage) -> None:
    ids = await stage.sent(stage.due(), stage.due(), stage.due())
    for message_id in ids:
        await stage.post("receipts", {"status": "delivered", "reference": message_id})
    impossible = '{"occurred_at": "0001-01-01T00:00:00+14:00"}'  # before the first time of a timestamp
    await stage.execute(
        "UPDATE webhook_events SET body = body || CAST(:impossible AS jsonb) WHERE reference = :id",
        impossible=impossible,
        id=ids[1],
    )
    await stage.apply()
    assert await stage.status_of(*ids) == ["delivered", "sent", "delivered"]
    (event,) = await stage.rows("SELECT checks, due_at > now() AS waits FROM webhook_events WHERE due_at IS NOT NULL")
    assert (event.checks, event.waits) == (1, True)
