"""From the queue to a provider that fails: what follows from each answer, and from none."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from common.events import MessageDelayed, MessageFailed, MessageSent
from delivery.messages.loops import queue_retries
from delivery.providers.webhook_parsing import Mark
from delivery.sending import loops
from services.delivery.tests.stage import Stage

ERROR = {"status": "error", "error": "Invalid phone number."}
BLOCKED = {"status": "blocked", "cost": 0}
SUCCESS = {"status": "success", "message_id": "mm-1"}


async def test_a_queued_message_is_sent_with_our_reference_and_its_outcome_is_published(stage: Stage) -> None:
    due = stage.due(text="Café ☕", request_id="req-7")
    await stage.add_due(due)
    await stage.send(stage.make_worker())
    message = await stage.message()
    key, raw = stage.provider.requests[0]
    reference = Mark(stage.make_settings()).write(message.id)
    assert json.loads(raw) == {
        "enable_unicode": True,
        "messages": [
            {"to": "61453000001", "message": "Café ☕", "sender": "Cooee", "custom_ref": reference},
        ],
    }
    assert str(message.submission_key) == key
    assert (message.status, message.attempts, message.provider_message_id) == ("sent", 1, f"mm-{message.id}")
    assert not await stage.rows("SELECT key FROM submissions")
    (event,) = await stage.events()
    assert isinstance(event, MessageSent)
    assert (event.schedule_id, event.dispatch_number, event.version, event.attempts) == (due.schedule_id, 1, 1, 1)
    assert (event.provider, event.request_id, event.sent_time) == ("mobile_message", "req-7", message.sent_time)


async def test_an_answer_with_several_results_is_read_by_reference(stage: Stage) -> None:
    await stage.add_due(*(stage.due() for _ in range(3)))
    stage.provider.script.append(stage.provider.item_results(SUCCESS, ERROR, BLOCKED))
    await stage.send(stage.make_worker())
    assert await stage.failures() == [("sent", None), ("failed", "invalid_number"), ("failed", "opted_out")]
    assert await stage.usage() == 1
    assert sum(isinstance(event, MessageFailed) for event in await stage.events()) == 2


async def test_a_message_that_the_answer_leaves_out_is_unknown_and_not_resent(stage: Stage) -> None:
    await stage.add_due(stage.due(), stage.due())
    stage.provider.script.append(stage.provider.item_results(SUCCESS, None))
    worker = stage.make_worker()
    await stage.send(worker)
    assert await stage.statuses() == ["sent", "unknown"]
    (submission,) = await stage.rows("SELECT due_at = give_up_at AS waits FROM submissions")
    assert submission.waits
    assert await stage.usage() == 2


async def test_a_throttled_message_waits_and_its_attempt_does_not_count(stage: Stage) -> None:
    await stage.add_due(stage.due())
    stage.provider.script.append(
        stage.provider.answer(429, "Too many concurrent requests. Please wait.", **{"Retry-After": "7"})
    )
    worker = stage.make_worker()
    await stage.send(worker)
    (message,) = await stage.rows("SELECT *, next_attempt_at - now() AS pause FROM messages")
    assert (message.status, message.attempts) == ("retry_wait", 0)
    assert message.pause > timedelta(seconds=6)
    await stage.execute("UPDATE messages SET next_attempt_at = now()")
    await queue_retries(stage.database, [worker.wake])
    await stage.send(worker)
    assert [row.status for row in await stage.rows("SELECT status FROM messages")] == ["sent"]
    assert len({key for key, _ in stage.provider.requests}) == 2, "a retry is a new submission with a new key"


async def test_a_batch_that_is_refused_as_a_whole_is_submitted_one_by_one(stage: Stage) -> None:
    await stage.add_due(*(stage.due(text=f"text {number}") for number in range(3)))
    stage.provider.script.append(stage.provider.answer(400, json.dumps({"error": "Message content is not permitted."})))
    worker = stage.make_worker()
    await stage.send(worker)
    stage.provider.script.append(stage.provider.answer(413, "content too large"))
    await stage.send(worker)
    assert [len(json.loads(raw)["messages"]) for _, raw in stage.provider.requests] == [3, 1, 1, 1]
    found = sorted(
        (row.status, row.failure_category, row.attempts) for row in await stage.rows("SELECT * FROM messages")
    )
    assert found == [("failed", "content_rejected", 1), ("sent", None, 1), ("sent", None, 1)]


@pytest.mark.parametrize("fault", ["reset", "500", "nonsense", "503"])
async def test_an_unknown_submission_is_resent_with_its_key_and_delivered_once(stage: Stage, fault: str) -> None:
    await stage.add_due(stage.due(), stage.due())
    answers = {
        "reset": stage.provider.accept_and_reset,
        "500": stage.provider.answer(500),
        "503": stage.provider.answer(503),
        "nonsense": stage.provider.answer(200, "<html>"),
    }
    stage.provider.script.append(answers[fault])
    worker = stage.make_worker()
    await stage.send(worker)
    assert await stage.statuses() == ["unknown", "unknown"]
    assert await stage.usage() == 2
    await stage.resend(worker)
    assert await stage.statuses() == ["sent", "sent"]
    assert len(set(stage.provider.requests)) == 1, "same key, same bytes"
    assert len(stage.provider.requests) == 2
    assert len(stage.provider.accepted) == 2
    assert not await stage.rows("SELECT key FROM submissions")


@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_a_refused_resend_leaves_the_submission_unknown(stage: Stage, status: int) -> None:
    await stage.add_due(stage.due())
    stage.provider.script += [stage.provider.answer(500), stage.provider.answer(status, "no")]
    worker = stage.make_worker()
    await stage.send(worker)
    await stage.resend(worker)
    assert await stage.statuses() == ["unknown"]
    (submission,) = await stage.rows("SELECT tries, state, due_at - tried_at AS pause FROM submissions")
    assert (submission.tries, submission.state) == (2, "unknown")
    assert submission.pause >= timedelta(seconds=900)
    stage.clock.advance(60)  # an account error opens the circuit for half a minute
    await stage.resend(worker)
    assert await stage.statuses() == ["sent"]


async def test_a_resend_reads_the_first_answer(stage: Stage) -> None:
    await stage.add_due(stage.due(), stage.due())
    stage.provider.script += [stage.provider.answer(500), stage.provider.item_results(SUCCESS, ERROR)]
    worker = stage.make_worker()
    await stage.send(worker)
    await stage.resend(worker)
    assert await stage.failures() == [("sent", None), ("failed", "invalid_number")]
    assert await stage.usage() == 1


async def test_an_unknown_submission_is_given_up_and_keeps_its_parts(stage: Stage) -> None:
    await stage.add_due(stage.due())
    stage.provider.script.append(stage.provider.answer(500))
    worker = stage.make_worker()
    await stage.send(worker)
    await stage.execute("UPDATE submissions SET due_at = now(), give_up_at = now()")
    await loops.resolve_submissions(stage.database, worker)
    message = await stage.message()
    assert (message.status, message.failure_category) == ("failed", "outcome_unknown")
    assert await stage.usage() == 1
    assert len(stage.provider.requests) == 1
    assert not await stage.rows("SELECT key FROM submissions")
    assert [event.failure_category for event in await stage.events()] == ["outcome_unknown"]


async def test_an_unknown_submission_is_not_resent_to_a_recipient_who_opted_out(stage: Stage) -> None:
    await stage.add_due(stage.due(), stage.due(phone="+61453000002"))
    stage.provider.script.append(stage.provider.answer(500))
    worker = stage.make_worker()
    await stage.send(worker)
    await stage.opt_out("+61453000002")
    await stage.resend(worker)
    assert len(stage.provider.requests) == 1
    (submission,) = await stage.rows("SELECT due_at = give_up_at AS waits FROM submissions")
    assert submission.waits


@pytest.mark.parametrize(("concurrency", "in_flight", "waits"), [(32, 20, True), (32, 16, False), (5, 4, False)])
async def test_a_claim_waits_for_half_of_many_requests_and_for_one_of_few(
    stage: Stage, concurrency: int, in_flight: int, waits: bool
) -> None:
    await stage.add_due(*(stage.due() for _ in range(in_flight)))
    stage.provider.script += [stage.provider.accept_and_wait] * in_flight
    worker = stage.make_worker(concurrency=concurrency, batch_size=1)
    while (await stage.statuses()).count("sending") < in_flight:
        await stage.claim(worker)
    waiting = asyncio.ensure_future(worker.wait_until_free())
    await asyncio.sleep(0)  # it takes its first step
    assert waiting.done() is not waits
    stage.provider.release.set()
    assert await waiting


@pytest.mark.parametrize(("concurrency", "first", "second"), [(12, 12, 12), (16, 16, 16), (20, 16, 20), (36, 18, 36)])
async def test_a_claim_takes_half_of_many_requests_so_that_the_next_runs_beside_them(
    stage: Stage, concurrency: int, first: int, second: int
) -> None:
    await stage.add_due(*(stage.due() for _ in range(40)))
    stage.provider.script += [stage.provider.accept_and_wait] * 40
    worker = stage.make_worker(concurrency=concurrency, batch_size=1)
    await stage.claim(worker)
    assert (await stage.statuses()).count("sending") == first
    await stage.claim(worker)
    assert (await stage.statuses()).count("sending") == second
    stage.provider.release.set()
    await loops.drain(stage.database, worker)
    assert (await stage.statuses()).count("sent") == second


async def test_an_ended_lease_makes_the_submission_unknown_and_a_late_acceptance_counts(stage: Stage) -> None:
    await stage.add_due(stage.due())
    stage.provider.script.append(stage.provider.accept_and_wait)
    worker = stage.make_worker()
    await stage.claim(worker)
    await stage.execute("UPDATE submissions SET due_at = now()")
    await loops.resolve_submissions(stage.database, worker)
    assert await stage.statuses() == ["unknown"]
    stage.provider.release.set()
    await loops.drain(stage.database, worker)
    assert await stage.statuses() == ["sent"]
    assert not await stage.rows("SELECT key FROM submissions")


async def test_a_late_refusal_does_not_free_a_message_that_a_resend_is_sending(stage: Stage) -> None:
    late = asyncio.Event()

    async def refuse_late(request: Any, body: Any) -> Any:
        await late.wait()
        return await stage.provider.answer(429, "busy")(request, body)

    await stage.add_due(stage.due())
    stage.provider.script += [refuse_late, stage.provider.accept_and_wait]
    slow, resending = stage.make_worker(), stage.make_worker()
    await stage.claim(slow)
    for _ in range(2):  # the lease ends, then another worker resends the submission
        await stage.execute("UPDATE submissions SET due_at = now()")
        await loops.resolve_submissions(stage.database, resending)
    late.set()
    await loops.drain(stage.database, slow)
    assert await stage.statuses() == ["sending"]
    stage.provider.release.set()
    await loops.drain(stage.database, resending)
    assert await stage.statuses() == ["sent"]
    assert len(await stage.events()) == 1
    assert len(stage.provider.accepted) == 1


async def test_a_provider_that_does_not_answer_in_time_gets_a_resend(stage: Stage) -> None:
    await stage.add_due(stage.due())
    stage.provider.script.append(stage.provider.accept_and_wait)
    worker = stage.make_worker(request_timeout_s=0.3)
    await stage.send(worker)
    assert await stage.statuses() == ["unknown"]
    await stage.resend(worker)
    assert await stage.statuses() == ["sent"]
    assert len(stage.provider.accepted) == 1


async def test_without_a_connection_the_message_is_queued_and_its_attempt_does_not_count(stage: Stage) -> None:
    await stage.add_due(stage.due())
    worker = stage.make_worker(base_url="http://127.0.0.1:9")
    await stage.send(worker)
    message = await stage.message()
    assert (message.status, message.attempts, message.failure_category) == ("queued", 0, "provider_unavailable")
    assert await stage.usage() == 1


async def test_an_account_error_delays_the_message_until_the_account_is_corrected(stage: Stage) -> None:
    await stage.add_due(stage.due())
    worker = stage.make_worker()
    stage.provider.script += [stage.provider.answer(403, json.dumps({"error": "Insufficient credits."}))] * 6
    for _ in range(6):
        await stage.send(worker)
        await stage.send(worker)
        await stage.execute("UPDATE messages SET next_attempt_at = now()")
        await queue_retries(stage.database, [worker.wake])
        stage.clock.advance(301)
    message = await stage.message()
    assert (message.status, message.failure_category, message.attempts) == ("queued", "account_error", 0)
    assert message.provider_status == "403 Insufficient credits.", "operators see the provider's own text"
    assert message.error == "The provider refused our account.", "members do not"
    assert len(stage.provider.requests) == 6, "none while the circuit is open"
    events = await stage.events()
    assert {(type(event), event.failure_category) for event in events} == {(MessageDelayed, "account_error")}
    for _ in range(2):  # the first looks for another organisation's messages
        await stage.send(worker)
    assert await stage.statuses() == ["sent"]
    assert (await stage.message()).provider_status == "success"


async def test_the_stored_text_of_a_provider_is_bounded_and_has_no_phone(stage: Stage) -> None:
    await stage.add_due(stage.due())
    stage.provider.script.append(stage.provider.answer(403, json.dumps({"error": f"+61453000001 {'x' * 300}"})))
    with capture_logs() as lines:
        worker = stage.make_worker()
        await stage.send(worker)
        stage.clock.advance(31)
        stage.provider.script.append(stage.provider.answer(403, "still not"))
        await stage.execute("UPDATE messages SET next_attempt_at = now()")
        await queue_retries(stage.database, [worker.wake])
        text = (await stage.message()).provider_status
        for _ in range(2):  # the first looks for another organisation's messages
            await stage.send(worker)
    assert (len(text), text[:14]) == (200, "403 [phone] xx")
    phrases = [line["event"] for line in lines if line["event"].startswith("provider ")]
    assert phrases == ["provider unavailable", "provider still unavailable"]


async def test_a_message_that_always_causes_an_account_error_does_not_block_the_others(stage: Stage) -> None:
    await stage.add_due(stage.due(), stage.due())
    worker = stage.make_worker(batch_size=1, concurrency=1)
    stage.provider.script.append(stage.provider.answer(403, json.dumps({"error": "Not for this message."})))
    await stage.send(worker)
    stage.clock.advance(31)
    for _ in range(2):  # the first looks for another organisation's messages
        await stage.send(worker)
    assert await stage.statuses() == ["retry_wait", "sent"]
    assert worker.circuit.state == "closed"


async def test_an_opt_out_after_the_intake_fails_the_message_at_the_claim(stage: Stage) -> None:
    await stage.add_due(stage.due(contact_id=5), stage.due(organisation_id="org_closed"), stage.due())
    await stage.opt_out("+61453000009")
    await stage.execute("INSERT INTO organisations VALUES ('org_closed', true, 1)")
    await stage.send(stage.make_worker())
    assert await stage.failures() == [("failed", "opted_out"), ("failed", "blocked"), ("sent", None)]
    assert await stage.usage() == 1
    assert len(stage.provider.accepted) == 1


async def test_a_message_past_its_deadline_fails_unsent(stage: Stage) -> None:
    await stage.add_due(stage.due(scheduled_time=datetime.now(UTC) - timedelta(days=1, seconds=1)))
    await stage.send(stage.make_worker())
    message = await stage.message()
    assert (message.status, message.failure_category) == ("failed", "expired")
    assert await stage.usage() == 0
    assert not stage.provider.requests


async def test_a_fictional_number_is_never_sent_to_a_real_provider(stage: Stage) -> None:
    await stage.add_due(stage.due(phone="+61491570006"))
    await stage.send(stage.make_worker(base_url="https://api.mobilemessage.com.au"))
    message = await stage.message()
    assert (message.status, message.failure_category, message.attempts) == ("failed", "invalid_number", 0)


async def test_the_request_id_is_sent_to_the_provider_with_every_try(stage: Stage) -> None:
    await stage.add_due(stage.due(request_id="req-7"))
    stage.provider.script.append(stage.provider.accept_and_wait)
    worker = stage.make_worker(request_timeout_s=0.3)
    await stage.send(worker)
    await stage.resend(worker)
    assert await stage.statuses() == ["sent"]
    assert stage.provider.request_ids == ["req-7", "req-7"]


async def test_a_submission_of_several_requests_has_no_request_id(stage: Stage) -> None:
    await stage.add_due(stage.due(request_id="req-7"), stage.due(request_id="req-8"))
    await stage.send(stage.make_worker(batch_size=100))
    assert stage.provider.request_ids == [""]
