"""Inbound messages find their organisation. STOP, START and HELP take effect and get one auto-reply."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from common.events import ContactChanged, ContactState, MessageReceived, OptOutChanged
from delivery.inbound.rules import InboundPolicy
from delivery.opt_outs import service as opt_outs
from services.delivery.tests.webhook_stage import PHONE, WebhookStage

NOW = datetime.now(UTC)


def at(minutes: float) -> str:
    return (NOW + timedelta(minutes=minutes)).isoformat()


async def test_an_inbound_message_is_stored_and_published_with_the_message_it_answers(stage: WebhookStage) -> None:
    event = stage.due(contact_id=7)
    (message_id,) = await stage.sent(event)
    reply = {"text": " See you\r\nthen! ", "in_reply_to": f"MM-{message_id}", "phone": "0453 000 001"}
    await stage.receive("inbound", reply)
    (row,) = await stage.rows("SELECT * FROM inbound_messages")
    assert (row.organisation_id, row.contact_id, row.schedule_id) == (stage.organisation, 7, event.schedule_id)
    assert (row.text, row.phone, row.to_number, row.keyword) == ("See you\nthen!", PHONE, "+61491570006", None)
    assert row.id > message_id, "one sequence for both directions"
    published = (await stage.events())[-1]
    assert isinstance(published, MessageReceived)
    assert (published.message_id, published.text, published.contact_id, published.phone) == (row.id, row.text, 7, PHONE)
    (stored,) = await stage.rows("SELECT due_at, message_id FROM webhook_events")
    assert (stored.due_at, stored.message_id) == (None, row.id)


async def test_organisations_that_share_an_account_get_their_own_messages(stage: WebhookStage) -> None:
    first, _ = await stage.sent(stage.due(organisation_id="org_first"), stage.due(organisation_id="org_second"))
    await stage.execute("UPDATE messages SET created_at = now() - interval '1 hour' WHERE id = :id", id=first)
    await stage.assign("+61491570006", "org_first")
    await stage.assign("+61491570158", "org_third")
    # A config does not count while the operator has not assigned the sender ID.
    await stage.execute(
        "INSERT INTO configs (organisation_id, name, value) VALUES ('org_second', 'sender', '0491570006')"
    )
    await stage.post("inbound", {"text": "by number", "to": "61491570006"})
    await stage.post("inbound", {"text": "by message", "reference": first, "to": "61491570158"})
    await stage.post("inbound", {"text": "by the last sender", "to": "61491570159"})
    await stage.post("inbound", {"text": "to an organisation that never wrote", "to": "61491570158"})
    await stage.post("inbound", {"text": "by nothing", "phone": "+61453000999", "to": "61491570159"})
    await stage.apply()
    found = {row.text: row.organisation_id for row in await stage.rows("SELECT * FROM inbound_messages")}
    assert found == {
        "by number": "org_first",
        "by message": "org_first",
        "by the last sender": "org_second",
        "to an organisation that never wrote": "org_third",
        "by nothing": None,
    }


async def test_a_reference_counts_only_from_the_phone_of_its_message(stage: WebhookStage) -> None:
    first, _ = await stage.sent(
        stage.due(organisation_id="org_first"), stage.due(organisation_id="org_second", phone="+61453000002")
    )
    await stage.post("inbound", {"text": "STOP", "reference": first, "phone": "+61453000099"})
    await stage.post("inbound", {"text": "for the second", "reference": first, "phone": "+61453000002"})
    await stage.apply()
    found = await stage.rows("SELECT organisation_id, text FROM inbound_messages ORDER BY organisation_id")
    assert [(row.organisation_id, row.text) for row in found] == [("org_second", "for the second"), (None, "STOP")]
    assert await stage.opted_out() == []


@pytest.mark.parametrize("given", ["0001-01-01T00:00:00+10:00", "0001-01-01T00:00:00", "9999-12-31T23:59:59-10:00"])
async def test_an_implausible_time_counts_as_the_time_of_arrival(stage: WebhookStage, given: str) -> None:
    (message_id,) = await stage.sent(stage.due())
    await stage.post("inbound", {"text": "STOP", "reference": message_id, "received_at": given})
    await stage.post("receipts", {"status": "delivered", "reference": message_id, "occurred_at": given})
    await stage.apply()
    (row,) = await stage.rows(
        "SELECT i.received_at = e.received_at AS same, o.opted_out, m.status,"
        " m.delivered_time - e.received_at < '1 min' AS near"
        " FROM inbound_messages i, webhook_events e, opt_outs o, messages m"
        " WHERE e.kind = 'inbound' AND m.auto_reply_to IS NULL"
    )
    assert (row.same, row.opted_out, row.status, row.near) == (True, True, "delivered", True)


async def test_an_inbound_message_before_ours_is_known_finds_it_later(stage: WebhookStage) -> None:
    await stage.receive("inbound", {"text": "STOP"})
    (before,) = await stage.rows("SELECT id, organisation_id FROM inbound_messages")
    assert before.organisation_id is None
    await stage.sent(stage.due(contact_id=7))
    await stage.execute("UPDATE webhook_events SET due_at = now()")
    await stage.apply()
    assert await stage.opted_out() == [True]
    (after,) = await stage.rows("SELECT id, organisation_id, contact_id, keyword FROM inbound_messages")
    assert after == (before.id, stage.organisation, 7, "stop")
    (event,) = await stage.rows("SELECT due_at, message_id FROM webhook_events")
    assert event == (None, before.id)
    assert len(await stage.auto_replies()) == 1


async def test_a_message_of_three_months_ago_no_longer_counts(stage: WebhookStage) -> None:
    await stage.sent(stage.due())
    await stage.execute("UPDATE messages SET created_at = now() - interval '91 days'")
    await stage.receive("inbound", {"text": "Who was that?"})
    (row,) = await stage.rows("SELECT organisation_id FROM inbound_messages")
    assert row.organisation_id is None


async def test_stop_applies_to_a_message_that_is_already_queued(stage: WebhookStage) -> None:
    await stage.sent(stage.due())
    await stage.add_due(stage.due(), stage.due(phone="+61453000002"))
    await stage.receive("inbound", {"text": "Stop."})
    await stage.send(stage.make_worker())
    found = await stage.rows(
        "SELECT phone, status, failure_category FROM messages WHERE auto_reply_to IS NULL ORDER BY id"
    )
    assert [(row.phone, row.status, row.failure_category) for row in found] == [
        (PHONE, "sent", None),
        (PHONE, "failed", "opted_out"),
        ("+61453000002", "sent", None),
    ]
    assert await stage.auto_replies() == [
        "You will receive no more messages from us. Reply START to receive them again."
    ]
    (reply,) = await stage.rows("SELECT * FROM messages WHERE auto_reply_to IS NOT NULL")
    assert (reply.status, reply.schedule_id, reply.lane, reply.parts) == ("sent", None, "single", 1)


async def test_stop_and_start_take_effect_once_in_any_order(stage: WebhookStage) -> None:
    await stage.sent(stage.due())
    await stage.receive("inbound", {"text": "START", "received_at": at(-1)})
    assert await stage.auto_replies() == [], "the number was not opted out"
    for text, minutes in (("STOP", -3), ("unsubscribe", -0.8), ("STOP", -0.7), ("yes", -0.5), ("STOP", -0.6)):
        await stage.receive("inbound", {"text": text, "received_at": at(minutes)})
    changes = [event for event in await stage.events() if isinstance(event, OptOutChanged)]
    assert [(event.opted_out, event.source) for event in changes] == [(True, "reply"), (False, "reply")]
    stored = await stage.rows("SELECT text, keyword, id FROM inbound_messages ORDER BY id")
    assert [row.keyword for row in stored] == ["start", "stop", "stop", "stop", "start", "stop"]
    assert [event.message_id for event in changes] == [stored[2].id, stored[4].id]
    assert [text.split(".")[0] for text in await stage.auto_replies()] == [
        "You will receive no more messages from us",
        "You will receive our messages again",
    ]


async def test_stop_and_yes_in_one_batch_are_read_in_the_order_of_their_times(stage: WebhookStage) -> None:
    await stage.sent(stage.due())
    yes, stop = {"text": "Yes", "received_at": at(-1)}, {"text": "Stop", "received_at": at(-2)}
    await stage.receive("inbound", yes, stop)
    assert await stage.opted_out() == [False]


async def test_an_opt_out_applies_to_one_organisation(stage: WebhookStage) -> None:
    (message_id,) = await stage.sent(stage.due(organisation_id="org_mine"))
    await stage.receive("inbound", {"text": "STOP", "reference": message_id})
    await stage.add_due(stage.due(organisation_id="org_mine"), stage.due(organisation_id="org_other"))
    await stage.send(stage.make_worker())
    statement = "SELECT organisation_id, status FROM messages WHERE id > :id AND auto_reply_to IS NULL"
    found = await stage.rows(statement, id=message_id)
    assert {(row.organisation_id, row.status) for row in found} == {("org_mine", "failed"), ("org_other", "sent")}


async def test_help_is_answered_once_a_day_with_the_configured_text(stage: WebhookStage) -> None:
    await stage.sent(stage.due())
    await stage.set_config("help_reply", "Call 08 8123 4567.")
    await stage.receive("inbound", {"text": "HELP"}, {"text": "info"})
    await stage.receive("inbound", {"text": "help"})
    assert await stage.auto_replies() == ["Call 08 8123 4567."]
    await stage.execute(
        "UPDATE messages SET created_at = created_at - interval '25 hours' WHERE auto_reply_to IS NOT NULL"
    )
    await stage.receive("inbound", {"text": "help"})
    assert await stage.auto_replies() == ["Call 08 8123 4567."] * 2


@pytest.mark.parametrize("case", ["off", "by the provider", "over the limit", "no mobile"])
async def test_no_auto_reply_is_sent(stage: WebhookStage, case: str) -> None:
    (message_id,) = await stage.sent(stage.due())
    handled_by_provider = frozenset({"mobile_message"} if case == "by the provider" else ())
    if case == "off":
        await stage.set_config("stop_reply", "Off")
    if case == "over the limit":
        await stage.set_config("sms_limit", "1")
    if case == "no mobile":
        await stage.assign("+61491570006")
    phone = "+442071838750" if case == "no mobile" else PHONE
    await stage.post("inbound", {"text": "STOP", "reference": message_id, "phone": phone})
    await stage.apply(InboundPolicy(handled_by_provider=handled_by_provider))
    assert await stage.auto_replies() == []
    found = await stage.rows("SELECT phone, opted_out FROM opt_outs")
    assert [(row.phone, row.opted_out) for row in found] == [(phone, True)]
    assert await stage.usage() == 1


async def test_the_parts_of_an_auto_reply_count_against_the_limit(stage: WebhookStage) -> None:
    await stage.sent(stage.due())
    await stage.set_config("help_reply", "x" * 161)
    await stage.set_config("sms_limit", "3")
    await stage.receive("inbound", {"text": "HELP"})
    assert await stage.usage() == 3


async def test_a_keyword_that_is_switched_off_does_not_opt_out(stage: WebhookStage) -> None:
    await stage.sent(stage.due())
    await stage.set_config("stop_words_off", "CANCEL")
    await stage.receive("inbound", {"text": "Cancel"})
    assert await stage.opted_out() == []
    assert [row.keyword for row in await stage.rows("SELECT keyword FROM inbound_messages")] == [None]


async def test_only_a_newer_confirmation_of_a_contact_that_is_opted_in_opts_the_number_in(stage: WebhookStage) -> None:
    await stage.sent(stage.due())
    await stage.receive("inbound", {"text": "STOP"})
    state = ContactState(contact_id=1, version=2, phone=PHONE, is_active=True, opt_out=False)

    async def opted_out_after(**changes: Any) -> list[bool]:
        contact = state.model_copy(update=changes)
        async with stage.database.all_tenants() as session:
            changed = ContactChanged(organisation_id=stage.organisation, contacts=(contact,))
            await opt_outs.apply_contact_changes(session, [changed])
        return await stage.opted_out()

    later = datetime.now(UTC) + timedelta(minutes=1)
    assert await opted_out_after() == [True]
    assert await opted_out_after(opt_in_confirmed_at=NOW - timedelta(days=1)) == [True], "older than the opt-out"
    assert await opted_out_after(opt_in_confirmed_at=later, opt_out=True) == [True], "the contact opted out since"
    assert await opted_out_after(opt_in_confirmed_at=later) == [False]
