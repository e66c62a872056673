"""Replies find their organisation; STOP, START and HELP act, and are answered once."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from common.database import Database
from common.events import ContactChanged, ContactState, MessageReceived, ScheduleDue, OptOutChanged
from delivery.messages import service as messages
from delivery.inbound.service import ReplyPolicy

from .conftest import PHONE

Due = Callable[..., ScheduleDue]
NOW = datetime.now(UTC)


def at(minutes: float) -> str:
    return (NOW + timedelta(minutes=minutes)).isoformat()


@pytest.fixture
def answers(rows: Any) -> Any:
    """`await answers()`: the texts of our answers, in order."""

    async def read() -> list[str]:
        return [row.text for row in await rows("SELECT text FROM messages WHERE answers IS NOT NULL ORDER BY id")]

    return read


async def test_a_reply_is_kept_and_told_with_what_it_answers(
    tell: Any, apply: Any, sent: Any, due: Due, rows: Any, outbox_events: Any, database: Database, organisation: str
) -> None:
    event = due(contact_id=7)
    (number,) = await sent(event)
    await tell("inbound", {"text": " See you\r\nthen! ", "in_reply_to": f"MM-{number}", "phone": "0453 000 001"})
    await apply()
    (row,) = await rows("SELECT * FROM inbound_messages")
    assert (row.organisation_id, row.contact_id, row.schedule_id) == (organisation, 7, event.schedule_id)
    assert (row.text, row.phone, row.to_number, row.keyword) == ("See you\nthen!", PHONE, "+61491570006", None)
    assert row.id > number, "one sequence for both directions"
    told = (await outbox_events(database))[-1]
    assert isinstance(told, MessageReceived)
    assert (told.message_id, told.text, told.contact_id, told.phone) == (row.id, row.text, 7, PHONE)
    (notice,) = await rows("SELECT due_at, message_id FROM notices")
    assert (notice.due_at, notice.message_id) == (None, row.id)


async def test_two_organisations_that_share_an_account_get_each_its_own(
    tell: Any, apply: Any, sent: Any, due: Due, rows: Any, execute: Any, assign: Any
) -> None:
    first, second = await sent(due(organisation_id="org_first"), due(organisation_id="org_second"))
    await execute("UPDATE messages SET created_at = now() - interval '1 hour' WHERE id = :id", id=first)
    await assign("+61491570006", "org_first")
    await assign("+61491570158", "org_third")
    # What an organisation wrote into its config when nobody asked whose it is gives it nothing.
    await execute("INSERT INTO configs (organisation_id, name, value) VALUES ('org_second', 'sender', '0491570006')")
    await tell("inbound", {"text": "by number", "to": "61491570006"})
    await tell("inbound", {"text": "by message", "reference": first, "to": "61491570158"})
    await tell("inbound", {"text": "by the last that wrote", "to": "61491570159"})
    await tell("inbound", {"text": "to one that never wrote", "to": "61491570158"})
    await tell("inbound", {"text": "by nothing", "phone": "+61453000999", "to": "61491570159"})
    await apply()
    found = {row.text: row.organisation_id for row in await rows("SELECT * FROM inbound_messages")}
    assert found == {
        "by number": "org_first",
        "by message": "org_first",
        "by the last that wrote": "org_second",
        "to one that never wrote": "org_third",
    }
    assert second != first


async def test_a_reference_of_another_system_gives_nobody_a_strangers_reply(
    tell: Any, apply: Any, sent: Any, due: Due, rows: Any
) -> None:
    first, _ = await sent(due(organisation_id="org_first"), due(organisation_id="org_second", phone="+61453000002"))
    await tell("inbound", {"text": "STOP", "reference": first, "phone": "+61453000099"})
    await tell("inbound", {"text": "for the second", "reference": first, "phone": "+61453000002"})
    await apply()
    found = await rows("SELECT organisation_id, text FROM inbound_messages")
    assert [(row.organisation_id, row.text) for row in found] == [("org_second", "for the second")]
    assert await rows("SELECT 1 FROM stops") == []


@pytest.mark.parametrize("told", ["0001-01-01T00:00:00+10:00", "0001-01-01T00:00:00", "9999-12-31T23:59:59-10:00"])
async def test_a_time_that_no_clock_tells_holds_up_nobody_and_stops_all_the_same(
    tell: Any, apply: Any, sent: Any, due: Due, rows: Any, told: str
) -> None:
    (number,) = await sent(due())
    await tell("inbound", {"text": "STOP", "reference": number, "received_at": told})
    await tell("receipts", {"status": "delivered", "reference": number, "occurred_at": told})
    await apply()
    (moments,) = await rows(
        "SELECT i.received_at = n.received_at AS same, s.stopped, m.status, m.delivered_time - n.received_at < '1 min'"
        " AS near FROM inbound_messages i, notices n, stops s, messages m"
        " WHERE n.kind = 'inbound' AND m.answers IS NULL"
    )
    assert (moments.same, moments.stopped, moments.status, moments.near) == (True, True, "delivered", True)


async def test_a_reply_that_comes_before_its_message_is_known_finds_it_later(
    tell: Any, apply: Any, sent: Any, due: Due, rows: Any, execute: Any
) -> None:
    await tell("inbound", {"text": "STOP"})
    await apply()
    assert await rows("SELECT 1 FROM inbound_messages") == []
    await sent(due())
    await execute("UPDATE notices SET due_at = now()")
    await apply()
    assert [row.stopped for row in await rows("SELECT stopped FROM stops")] == [True]


async def test_a_message_of_three_months_ago_says_nothing_any_more(
    tell: Any, apply: Any, sent: Any, due: Due, rows: Any, execute: Any
) -> None:
    await sent(due())
    await execute("UPDATE messages SET created_at = now() - interval '91 days'")
    await tell("inbound", {"text": "Who was that?"})
    await apply()
    assert await rows("SELECT 1 FROM inbound_messages") == []


async def test_stop_beats_a_message_that_is_queued_already(
    tell: Any, apply: Any, sent: Any, due: Due, take_in: Any, send: Any, make_sender: Any, rows: Any, answers: Any
) -> None:
    await sent(due())
    await take_in(due(), due(phone="+61453000002"))
    await tell("inbound", {"text": "Stop."})
    await apply()
    await send(make_sender())
    found = await rows("SELECT phone, status, category FROM messages WHERE answers IS NULL ORDER BY id")
    assert [(row.phone, row.status, row.failure_category) for row in found] == [
        (PHONE, "sent", None),
        (PHONE, "failed", "opted_out"),
        ("+61453000002", "sent", None),
    ]
    assert await answers() == ["You will receive no more messages from us. Reply START to receive them again."]
    (answer,) = await rows("SELECT status, schedule_id, lane, units, phone FROM messages WHERE answers IS NOT NULL")
    assert (answer.status, answer.schedule_id, answer.lane, answer.units) == ("sent", None, "single", 1)


async def test_stop_and_start_act_once_in_whatever_order_they_come(
    tell: Any, apply: Any, sent: Any, due: Due, answers: Any, outbox_events: Any, database: Database, rows: Any
) -> None:
    await sent(due())
    await tell("inbound", {"text": "START", "received_at": at(-1)})
    await apply()
    assert await answers() == [], "there was no stop"
    for text, minutes in (("STOP", -3), ("unsubscribe", -0.8), ("STOP", -0.7), ("yes", -0.5), ("STOP", -0.6)):
        await tell("inbound", {"text": text, "received_at": at(minutes)})
        await apply()
    told = [event for event in await outbox_events(database) if isinstance(event, OptOutChanged)]
    assert [(event.stopped, event.source) for event in told] == [(True, "reply"), (False, "reply")]
    kept = await rows("SELECT text, keyword, id FROM inbound_messages ORDER BY id")
    assert [row.keyword for row in kept] == ["start", "stop", "stop", "stop", "start", "stop"]
    assert [event.message_id for event in told] == [kept[2].id, kept[4].id]
    assert [text.split(".")[0] for text in await answers()] == [
        "You will receive no more messages from us",
        "You will receive our messages again",
    ]


async def test_stop_and_yes_in_one_batch_are_read_in_their_order(
    tell: Any, apply: Any, sent: Any, due: Due, rows: Any
) -> None:
    await sent(due())
    await tell("inbound", {"text": "Yes", "received_at": at(-1)}, {"text": "Stop", "received_at": at(-2)})
    await apply()
    assert [row.stopped for row in await rows("SELECT stopped FROM stops")] == [False]


async def test_the_stop_is_the_organisations_alone(
    tell: Any, apply: Any, sent: Any, due: Due, take_in: Any, send: Any, make_sender: Any, rows: Any
) -> None:
    (number,) = await sent(due(organisation_id="org_mine"))
    await tell("inbound", {"text": "STOP", "reference": number})
    await apply()
    await take_in(due(organisation_id="org_mine"), due(organisation_id="org_other"))
    await send(make_sender())
    found = await rows("SELECT organisation_id, status FROM messages WHERE id > :id AND answers IS NULL", id=number)
    assert {(row.organisation_id, row.status) for row in found} == {("org_mine", "failed"), ("org_other", "sent")}


async def test_help_is_answered_once_a_day_in_the_organisations_words(
    tell: Any, apply: Any, sent: Any, due: Due, answers: Any, limit: Any, execute: Any
) -> None:
    await sent(due())
    await limit("help_reply", "Call 08 8123 4567.")
    await tell("inbound", {"text": "HELP"}, {"text": "info"})
    await apply()
    await tell("inbound", {"text": "help"})
    await apply()
    assert await answers() == ["Call 08 8123 4567."]
    await execute("UPDATE messages SET created_at = created_at - interval '25 hours' WHERE answers IS NOT NULL")
    await tell("inbound", {"text": "help"})
    await apply()
    assert await answers() == ["Call 08 8123 4567."] * 2


@pytest.mark.parametrize("case", ["off", "by the provider", "over the limit", "no mobile"])
async def test_no_answer_is_sent(
    tell: Any, apply: Any, sent: Any, due: Due, answers: Any, limit: Any, rows: Any, assign: Any, case: str
) -> None:
    (number,) = await sent(due())
    policy = ReplyPolicy(answered_by=frozenset({"mobile_message"} if case == "by the provider" else ()))
    if case == "off":
        await limit("stop_reply", "Off")
    if case == "over the limit":
        await limit("sms_limit", "1")
    if case == "no mobile":
        await assign("+61491570006")
    phone = "+442071838750" if case == "no mobile" else PHONE
    await tell("inbound", {"text": "STOP", "reference": number, "phone": phone})
    await apply(policy)
    assert await answers() == []
    assert [(row.phone, row.stopped) for row in await rows("SELECT phone, stopped FROM stops")] == [(phone, True)]
    assert [row.taken for row in await rows("SELECT taken FROM limits")] == [1]


async def test_an_answer_takes_its_place_in_the_limit(
    tell: Any, apply: Any, sent: Any, due: Due, rows: Any, limit: Any
) -> None:
    await sent(due())
    await limit("help_reply", "x" * 161)
    await limit("sms_limit", "3")
    await tell("inbound", {"text": "HELP"})
    await apply()
    assert [row.taken for row in await rows("SELECT taken FROM limits")] == [3]


async def test_a_word_that_is_switched_off_stops_nobody(
    tell: Any, apply: Any, sent: Any, due: Due, rows: Any, limit: Any
) -> None:
    await sent(due())
    await limit("stop_words_off", "CANCEL")
    await tell("inbound", {"text": "Cancel"})
    await apply()
    assert await rows("SELECT 1 FROM stops") == []
    assert [row.keyword for row in await rows("SELECT keyword FROM inbound_messages")] == [None]


async def test_a_confirmed_consent_lifts_the_stop_a_state_told_again_does_not(
    tell: Any, apply: Any, sent: Any, due: Due, rows: Any, database: Database, organisation: str
) -> None:
    await sent(due())
    await tell("inbound", {"text": "STOP"})
    await apply()
    state = ContactState(contact_id=1, version=2, phone=PHONE, is_active=True, opt_out=False)

    async def hear(**changes: Any) -> bool:
        changed = ContactChanged(organisation_id=organisation, contacts=(state.model_copy(update=changes),))
        async with database.all_tenants() as session:
            await messages.hear_contacts(session, [changed])
        return bool((await rows("SELECT stopped FROM stops"))[0].stopped)

    later = datetime.now(UTC) + timedelta(minutes=1)
    assert await hear()
    assert await hear(opt_in_confirmed_at=NOW - timedelta(days=1)), "older than the stop"
    assert await hear(opt_in_confirmed_at=later, opt_out=True), "of a contact that has stopped since"
    assert not await hear(opt_in_confirmed_at=later)
