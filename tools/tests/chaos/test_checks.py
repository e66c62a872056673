"""The comparison finds no violation in a run that kept every promise, and each violation that is planted."""

import time
from dataclasses import replace

import pytest

from tools.chaos.records import Barrier, BarrierKind, Request, Retry, make_text

from .conftest import CONTACT, ORGANISATION, PHONE, TOKEN, Stage

HELLO = make_text(TOKEN, 1, "Hello")
_SECOND_DISPATCH = """
    INSERT INTO delivery.messages (organisation_id, schedule_id, dispatch_number, phone, text, format, parts,
                                   scheduled_time, period, deadline, lane, status, sent_time, request_id)
    SELECT organisation_id, schedule_id, 2, phone, text, format, parts, scheduled_time, period, deadline, lane, 'sent',
           now(), 'r2' FROM delivery.messages
"""


async def test_run_that_kept_every_promise_has_no_violations(stage: Stage) -> None:
    assert await stage.violations() == {}


async def test_lost_message_is_found(stage: Stage) -> None:
    stage.received.clear()
    found = await stage.violations()
    assert "was lost" in found[1][0]
    assert set(found) == {1, 3}  # its usage is not on the handset either


async def test_accepted_schedule_that_does_not_exist_is_found(stage: Stage) -> None:
    stage.records.requests["C1-O1-N2"] = Request(ORGANISATION, "C1-O1-N2", is_batch=False, status=202, id=999)
    assert await stage.violations() == {1: ["C1-O1-N2 was accepted as 999, which does not exist"]}


@pytest.mark.parametrize("status", ["pending", "processing"])
async def test_schedule_without_an_outcome_is_found(stage: Stage, status: str) -> None:
    await stage.sql("UPDATE scheduling.schedules SET status = $1", status)
    found = await stage.violations()
    assert found[1] == [f"single {stage.schedule_id} is still {status}"]


async def test_failed_schedule_whose_message_was_sent_is_found(stage: Stage) -> None:
    await stage.sql("UPDATE scheduling.schedules SET status = 'failed', failure_category = 'unknown', error = 'E'")
    assert list(await stage.violations()) == [1]


async def test_failed_message_that_arrived_is_found_unless_its_outcome_is_unknown(stage: Stage) -> None:
    await stage.sql("UPDATE scheduling.schedules SET status = 'failed', failure_category = 'unknown', error = 'E'")
    fail = "UPDATE delivery.messages SET status = 'failed', sent_time = NULL, failure_category = $1"
    await stage.sql(fail, "outcome_unknown")
    assert await stage.violations() == {}
    await stage.sql(fail, "provider_unavailable")
    found = await stage.violations()
    assert found[1] == [f"message {stage.message_id} failed as provider_unavailable, and arrived"]


async def test_message_that_arrived_twice_is_found(stage: Stage) -> None:
    stage.arrive(HELLO)
    found = await stage.violations()
    assert found[2] == [f"{TOKEN} arrived 2 times at {PHONE}", f"message {stage.message_id} arrived 2 times"]


async def test_second_dispatch_of_a_sent_message_is_found_even_with_a_retry(stage: Stage) -> None:
    await stage.sql(_SECOND_DISPATCH)
    found = await stage.violations()
    assert f"schedule {stage.schedule_id} was dispatched 2 times, with 0 retries" in found[2]
    stage.records.retries[stage.schedule_id] = [Retry(include_unknown=True)]
    found = await stage.violations()
    assert found[2] == [f"message {stage.message_id} is sent, and was sent again"]


async def test_second_dispatch_after_an_unknown_outcome_needs_a_retry_that_includes_it(stage: Stage) -> None:
    await stage.sql(_SECOND_DISPATCH)
    unknown = "UPDATE delivery.messages SET status = 'failed', sent_time = NULL, failure_category = 'outcome_unknown'"
    await stage.sql(f"{unknown} WHERE dispatch_number = 1")
    stage.records.retries[stage.schedule_id] = [Retry(include_unknown=False)]
    found = await stage.violations()
    assert found[2] == [f"message {stage.message_id} may have arrived, and was sent again"]
    stage.records.retries[stage.schedule_id].append(Retry(include_unknown=True))
    assert 2 not in await stage.violations()


async def test_drift_of_the_usage_is_found_by_both_counts(stage: Stage) -> None:
    await stage.sql("UPDATE delivery.limit_usage SET usage = 3")
    found = await stage.violations()
    assert found[3] == [
        f"usage of ('{ORGANISATION}', 'sms'): 3, and the handset has 1 parts",
        f"usage of {ORGANISATION} (sms): 3 instead of 1",
    ]


async def test_usage_above_the_limit_is_found_although_it_was_returned(stage: Stage) -> None:
    await stage.sql("UPDATE delivery.limit_usage SET usage = 11")
    await stage.sql("UPDATE delivery.limit_usage SET usage = 1")
    assert await stage.violations() == {3: [f"usage of {ORGANISATION} was 11 under a limit of 10"]}


@pytest.mark.parametrize("kind", [BarrierKind.OPT_OUT, BarrierKind.STOP, BarrierKind.DELETE, BarrierKind.CANCEL])
async def test_message_after_an_answer_that_forbids_it_is_found(stage: Stage, kind: BarrierKind) -> None:
    subject = stage.schedule_id if kind is BarrierKind.CANCEL else CONTACT
    barrier = Barrier(kind, ORGANISATION, subject, time.time() + 60, PHONE)
    stage.records.barriers = [barrier]
    assert await stage.violations() == {}
    stage.records.barriers = [replace(barrier, at=time.time() - 60)]
    found = await stage.violations()
    assert list(found) == [4]
    assert found[4][0].startswith(f"{kind} of {subject} in {ORGANISATION}")
    stage.records.barriers = [replace(barrier, at=time.time() - 60, organisation="org_2")]
    assert await stage.violations() == {}


async def test_dispatch_after_a_cancel_is_allowed_by_a_retry_that_may_come_later(stage: Stage) -> None:
    cancelled_at = time.time() - 60
    stage.records.barriers = [Barrier(BarrierKind.CANCEL, ORGANISATION, stage.schedule_id, cancelled_at)]
    stage.records.retries[stage.schedule_id] = [Retry(include_unknown=False, until=cancelled_at - 1)]
    assert list(await stage.violations()) == [4]
    stage.records.retries[stage.schedule_id] = [Retry(include_unknown=False)]
    assert await stage.violations() == {}


_LATER = "SELECT message_ids, {key}, now() + interval '1 minute'"


async def test_a_resend_is_found_after_an_opt_out_and_allowed_after_a_stop(stage: Stage) -> None:
    barrier = Barrier(BarrierKind.OPT_OUT, ORGANISATION, CONTACT, time.time(), PHONE)
    stage.records.barriers = [barrier]
    assert await stage.violations() == {}
    await stage.sql(f"INSERT INTO chaos.tries {_LATER.format(key='key')} FROM chaos.tries")
    assert list(await stage.violations()) == [4]
    stage.records.barriers = [replace(barrier, kind=BarrierKind.STOP)]
    assert await stage.violations() == {}
    await stage.sql(f"INSERT INTO chaos.tries {_LATER.format(key='gen_random_uuid()')} FROM chaos.tries")
    assert list(await stage.violations()) == [4]


async def test_text_from_before_an_edit_is_found(stage: Stage) -> None:
    request = stage.records.requests[TOKEN]
    request.last, request.edits = 2, [(time.time() + 60, 2)]
    assert await stage.violations() == {}  # it was dispatched before the edit was answered
    request.edits = [(time.time() - 60, 2)]
    assert await stage.violations() == {6: [f"message {stage.message_id} has version 1 of {TOKEN}, not 2"]}


async def test_two_effects_of_one_request_are_found(stage: Stage) -> None:
    columns = "organisation_id, kind, status, phone, text, scheduled_time, format"
    await stage.sql(
        f"INSERT INTO scheduling.schedules ({columns})"
        f" SELECT organisation_id, kind, 'cancelled', phone, text, scheduled_time, format FROM scheduling.schedules"
    )
    assert await stage.violations() == {6: [f"{TOKEN} has 2 effects"]}


async def test_effect_of_a_refused_request_is_found(stage: Stage) -> None:
    stage.records.requests[TOKEN].status = 400
    assert await stage.violations() == {6: [f"{TOKEN} was refused with 400, and has an effect"]}


async def test_batch_that_lacks_a_message_is_found(stage: Stage) -> None:
    await stage.sql(
        "INSERT INTO scheduling.schedules (organisation_id, kind, status, text, scheduled_time, format, group_id,"
        " next_due_at, message_count) SELECT $1, 'batch', 'sent', $2, now(), 'sms', 1, now(), 2",
        ORGANISATION,
        make_text("C1-O1-N2", 1, ""),
    )
    batch = await stage.connection.fetchval("SELECT max(id) FROM scheduling.schedules")
    request = Request(ORGANISATION, "C1-O1-N2", is_batch=True, status=201, id=batch, messages=2)
    stage.records.requests["C1-O1-N2"] = request
    assert await stage.violations() == {1: [f"batch {batch} was accepted with 2 messages and has 0"]}


@pytest.mark.parametrize("table", ["outbox", "reservations", "submissions", "dead_letters"])
async def test_row_that_is_left_over_is_found(stage: Stage, table: str) -> None:
    statements = {
        "outbox": "INSERT INTO contacts.outbox (event_id, topic, key, body, request_id)"
        " VALUES (gen_random_uuid(), 't', 'k', '', 'r')",
        "reservations": "INSERT INTO delivery.reservations"
        f" VALUES (gen_random_uuid(), '{ORGANISATION}', date_trunc('month', now()), 'sms', 0, now())",
        "submissions": "INSERT INTO delivery.submissions (key, provider, message_ids, body, due_at, give_up_at)"
        " VALUES (gen_random_uuid(), 'twilio', '{}', '', now(), now())",
        "dead_letters": "INSERT INTO scheduling.dead_letters"
        " (topic, kafka_partition, kafka_offset, sha256, body, error) VALUES ('t', 0, 0, '', '', 'e')",
    }
    await stage.sql(statements[table])
    found = await stage.violations()
    assert list(found) == [7]
    assert len(found[7]) == 1


async def test_what_a_client_saw_itself_is_a_violation(stage: Stage) -> None:
    stage.records.violations.append((5, "a foreign text"))
    stage.records.unanswered.append("POST /api/sms/send/")
    assert await stage.violations() == {1: ["no definite answer: POST /api/sms/send/"], 5: ["a foreign text"]}
