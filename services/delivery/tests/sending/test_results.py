"""What the results of submissions mean: delays, opt-outs that a provider knows, answers that arrive after a receipt."""

from typing import Any

import pytest

from common.events import MessageDelayed, MessageFailed, MessageSent, OptOutChanged
from delivery.messages.loops import queue_retries
from delivery.sending import loops
from services.delivery.tests.stage import Stage

BLOCKED = {"status": "blocked", "cost": 0}
AUTO_REPLY = """
    INSERT INTO messages (organisation_id, dispatch_number, phone, text, format, parts, scheduled_time, period, lane,
                          request_id, deadline, auto_reply_to)
    VALUES (:organisation, 1, '+61453000001', 'You will get no more messages.', 'sms', 1, now(), '2026-04-01', 'single',
            '', now() + interval '1 day', 77)
"""
OPT_OUT = """
    INSERT INTO opt_outs
    VALUES (:organisation, '+61453000001', true, now(), 'reply', NULL, nextval('opt_out_versions'))
"""


async def test_a_delay_is_published_and_the_outcome_after_it_has_a_higher_version(stage: Stage) -> None:
    await stage.add_due(stage.due())
    stage.provider.script.append(stage.provider.answer(429, "busy", **{"Retry-After": "30"}))
    worker = stage.make_worker()
    await stage.send(worker)
    (delayed,) = await stage.events()
    message = await stage.message()
    assert isinstance(delayed, MessageDelayed)
    assert (delayed.version, delayed.attempts, delayed.failure_category) == (1, 0, "rate_limited")
    assert delayed.next_attempt_at == message.next_attempt_at
    await stage.execute("UPDATE messages SET next_attempt_at = now()")
    await queue_retries(stage.database, [worker.wake])
    await stage.send(worker)
    assert [(type(event), event.version) for event in await stage.events()][1:] == [(MessageSent, 2)]


async def test_a_short_delay_is_not_published(stage: Stage) -> None:
    await stage.add_due(stage.due())
    stage.provider.script.append(stage.provider.answer(429, "busy", **{"Retry-After": "1"}))
    worker = stage.make_worker()
    worker.policy = stage.policy.model_copy(update={"retry_base_s": 15})
    await stage.send(worker)
    assert await stage.statuses() == ["retry_wait"]
    assert not await stage.events()


async def test_a_provider_that_refuses_an_opted_out_number_adds_an_opt_out(stage: Stage) -> None:
    await stage.add_due(stage.due())
    stage.provider.script.append(stage.provider.item_results(BLOCKED))
    await stage.send(stage.make_worker())
    opted_out, failed = await stage.events()
    assert isinstance(failed, MessageFailed)
    assert isinstance(opted_out, OptOutChanged)
    assert (opted_out.organisation_id, opted_out.phone, opted_out.opted_out, opted_out.source) == (
        stage.organisation,
        "+61453000001",
        True,
        "provider",
    )
    await stage.add_due(stage.due(), stage.due(organisation_id="org_other"))
    assert (await stage.failures())[1:] == [("failed", "opted_out"), ("queued", None)]
    assert len(stage.provider.requests) == 1


async def test_an_opt_out_fails_queued_messages_but_not_its_auto_reply(stage: Stage) -> None:
    await stage.add_due(stage.due())
    await stage.execute(OPT_OUT, organisation=stage.organisation)
    await stage.execute(AUTO_REPLY, organisation=stage.organisation)
    await stage.send(stage.make_worker())
    assert await stage.failures() == [("failed", "opted_out"), ("sent", None)]
    assert [item["message"] for item in stage.provider.accepted] == ["You will get no more messages."]
    assert [type(event) for event in await stage.events()] == [MessageFailed], "no schedule waits for an auto-reply"


@pytest.mark.parametrize("status", ["sent", "delivered", "failed"])
async def test_an_acceptance_after_the_receipt_only_adds_the_id_of_the_provider(
    stage: Stage, eventually: Any, status: str
) -> None:
    await stage.add_due(stage.due())
    stage.provider.script.append(stage.provider.accept_and_wait)
    worker = stage.make_worker()
    await stage.claim(worker)

    async def is_accepted() -> bool:
        return bool(stage.provider.accepted)

    await eventually(is_accepted)
    await stage.execute("UPDATE messages SET status = :status, version = 1", status=status)
    stage.provider.release.set()
    await loops.drain(stage.database, worker)
    message = await stage.message()
    assert (message.status, message.version, message.provider_message_id) == (status, 1, f"mm-{message.id}")
    assert not await stage.events()
    assert not await stage.rows("SELECT key FROM submissions")


async def test_submissions_of_an_unconfigured_provider_are_given_up(stage: Stage) -> None:
    await stage.add_due(stage.due(), stage.due())
    stage.provider.script.append(stage.provider.accept_and_wait)
    worker = stage.make_worker(batch_size=100)
    await stage.claim(worker)
    await stage.execute("UPDATE submissions SET provider = 'gone', due_at = now()")
    await loops.give_up_unconfigured(stage.database, ["mobile_message"], stage.policy)
    assert await stage.statuses() == ["unknown", "unknown"]
    (submission,) = await stage.rows("SELECT due_at = give_up_at AS waits FROM submissions")
    assert submission.waits
    await stage.execute("UPDATE submissions SET due_at = now(), give_up_at = now()")
    await loops.give_up_unconfigured(stage.database, ["mobile_message"], stage.policy)
    found = await stage.rows("SELECT DISTINCT status, failure_category FROM messages")
    assert [(row.status, row.failure_category) for row in found] == [("failed", "outcome_unknown")]
    assert not await stage.rows("SELECT key FROM submissions")


@pytest.mark.parametrize(("received_by", "status"), [("mobile_message", "sent"), ("twilio", "unknown")])
async def test_an_opt_out_at_the_provider_itself_does_not_prevent_the_resend(
    stage: Stage, received_by: str, status: str
) -> None:
    await stage.add_due(stage.due(), stage.due(phone="+61453000002"))
    stage.provider.script.append(stage.provider.answer(500))
    worker = stage.make_worker()
    await stage.send(worker)
    await stage.execute(
        "INSERT INTO inbound_messages (id, organisation_id, phone, to_number, text, received_at, provider)"
        " VALUES (99, :organisation, '+61453000001', '+61400000000', 'STOP', now(), :provider)",
        organisation=stage.organisation,
        provider=received_by,
    )
    await stage.execute(OPT_OUT, organisation=stage.organisation)
    await stage.execute("UPDATE opt_outs SET message_id = 99")
    await stage.opt_out("+61453000001")
    await stage.resend(worker)
    assert await stage.statuses() == [status, status]


async def test_parts_above_the_rate_of_the_provider_stay_queued(stage: Stage) -> None:
    stage.clock.freeze()
    worker = stage.make_worker(rate=5)
    await stage.add_due(*(stage.due(parts=2) for _ in range(5)), stage.due(parts=9))
    await stage.send(worker)
    assert await stage.statuses() == ["sent"] * 2 + ["queued"] * 4
    assert {row.attempts for row in await stage.rows("SELECT attempts FROM messages WHERE status = 'queued'")} == {0}
    for sent in (4, 5, 6):
        stage.clock.advance(1)
        for _ in range(2):  # the first claim may begin after the only organisation
            await stage.send(worker)
        assert (await stage.statuses()).count("sent") == sent
    stage.clock.advance(0.9)
    await stage.add_due(stage.due())
    await stage.send(worker)
    assert (await stage.statuses())[-1] == "queued", "the large message left a debt"
    stage.clock.advance(1)
    await stage.send(worker)
    assert set(await stage.statuses()) == {"sent"}


async def test_the_billed_parts_and_the_status_of_the_provider_are_stored(stage: Stage) -> None:
    await stage.add_due(stage.due())
    stage.provider.script.append(stage.provider.item_results({"status": "success", "message_id": "mm-1", "cost": 3}))
    await stage.send(stage.make_worker())
    message = await stage.message()
    assert (message.billed_parts, message.provider_status) == (3, "success")
