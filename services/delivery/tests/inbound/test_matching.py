"""Inbound messages match by sender ID and phone, whichever provider brings them. Those that match none are stored."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from structlog.testing import capture_logs

from common.events import MessageReceived, OptOutChanged
from delivery.app import create_app
from delivery.inbound import service
from delivery.inbound.rules import InboundPolicy, UnmatchedChoice
from services.delivery.tests.webhook_stage import PHONE, WebhookStage

from . import signed
from .signed import PROVIDERS, SignedWebhooks

NUMBER = "+61491570006"
SPELLINGS = ("+61491570006", "61491570006", "0491570006", "0491 570 006")
SHARED = InboundPolicy(default_sender_ids=frozenset({NUMBER}))
ALL = UnmatchedChoice()
MESSAGES = "SELECT organisation_id, keyword, text, provider FROM inbound_messages ORDER BY id"


@pytest.fixture
async def webhooks(
    stage: WebhookStage, serve: Callable[[Any], httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SignedWebhooks]:
    """Return the four providers, whose webhooks an application with all of them reads."""
    runner, url = await signed.serve_certificate()
    for name, value in signed.environment(url).items():
        monkeypatch.setenv(name, value)
    app = create_app(stage.make_settings(sms_providers=",".join(PROVIDERS), public_url=signed.PUBLIC_URL))
    async with serve(app) as client, app.router.lifespan_context(app):
        yield SignedWebhooks(client, url)
    await runner.cleanup()


async def sent_from(stage: WebhookStage, *organisations: str, provider: str = "mobile_message") -> list[int]:
    """Return the ids of messages of these organisations, which one provider sent to the phone from the number."""
    ids = await stage.sent(*(stage.due(organisation_id=organisation) for organisation in organisations))
    await stage.execute(
        "UPDATE messages SET sender_id = :number, provider = :provider WHERE id = ANY(:ids)",
        number=NUMBER,
        provider=provider,
        ids=ids,
    )
    return ids


async def next_message(stage: WebhookStage, organisation: str) -> str:
    """Send the organisation's next message to the phone, and return what became of it."""
    event = stage.due(organisation_id=organisation)
    await stage.add_due(event)
    await stage.send(stage.make_worker())
    found = "SELECT status, failure_category FROM messages WHERE schedule_id = :id"
    (row,) = await stage.rows(found, id=event.schedule_id)
    return str(row.failure_category or row.status)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("bringer", PROVIDERS)
@pytest.mark.parametrize("sender", PROVIDERS)
async def test_a_stop_to_the_number_blocks_the_next_message_whichever_provider_brings_it(
    stage: WebhookStage, webhooks: SignedWebhooks, sender: str, bringer: str, spelling: str
) -> None:
    await sent_from(stage, stage.organisation, provider=sender)
    await webhooks.post(bringer, "Stop", phone=PHONE, to=spelling)
    await stage.apply()
    assert await stage.rows(MESSAGES) == [(stage.organisation, "stop", "Stop", bringer)]
    assert await next_message(stage, stage.organisation) == "opted_out"
    assert await next_message(stage, "org_other") == "sent"


@pytest.mark.parametrize("bringer", PROVIDERS)
async def test_an_assigned_number_gets_its_messages_through_every_provider(
    stage: WebhookStage, webhooks: SignedWebhooks, bringer: str
) -> None:
    await stage.assign(NUMBER)
    await webhooks.post(bringer, "STOP", phone=PHONE, to="61491570006")
    await stage.apply()
    assert await stage.rows(MESSAGES) == [(stage.organisation, "stop", "STOP", bringer)]
    assert await next_message(stage, stage.organisation) == "opted_out"


@pytest.mark.parametrize("bringer", PROVIDERS)
async def test_a_message_to_another_number_through_another_provider_is_not_taken_for_ours(
    stage: WebhookStage, webhooks: SignedWebhooks, bringer: str
) -> None:
    await sent_from(stage, stage.organisation, provider="log")
    await webhooks.post(bringer, "STOP", phone=PHONE, to="+61491570158")
    await webhooks.post(bringer, "STOP", phone="+61453000099", to=NUMBER)
    await stage.apply()
    assert await stage.rows(MESSAGES) == [(None, "stop", "STOP", bringer)] * 2
    assert await next_message(stage, stage.organisation) == "sent"


@pytest.mark.parametrize("bringer", PROVIDERS)
async def test_a_repeated_message_is_stored_once(stage: WebhookStage, webhooks: SignedWebhooks, bringer: str) -> None:
    for _ in range(2):
        await webhooks.post(bringer, "Hi", phone=PHONE, to=NUMBER, message_id="same")
        await webhooks.post(bringer, "Hi", phone=PHONE, to=NUMBER, message_id="same")
        await stage.apply()
        await stage.execute("DELETE FROM webhook_events")  # they are stored for a month only
    assert await stage.rows(MESSAGES) == [(None, None, "Hi", bringer)]


@pytest.mark.parametrize("first", ["STOP", "START"])
async def test_stop_and_start_of_two_providers_count_by_their_times(
    stage: WebhookStage, webhooks: SignedWebhooks, first: str
) -> None:
    await sent_from(stage, stage.organisation, provider="twilio")
    last = "START" if first == "STOP" else "STOP"
    for word, provider in ((first, "aws"), (last, "messagemedia")):
        await webhooks.post(provider, word, phone=PHONE, to=NUMBER)
        await stage.apply()
    assert await next_message(stage, stage.organisation) == ("sent" if last == "START" else "opted_out")


@pytest.mark.parametrize("receipt_first", [True, False])
async def test_a_stop_before_or_after_the_receipt_of_another_provider_blocks_the_next_message(
    stage: WebhookStage, webhooks: SignedWebhooks, receipt_first: bool
) -> None:
    (message_id,) = await sent_from(stage, stage.organisation)
    if receipt_first:
        await stage.receive("receipts", {"status": "delivered", "reference": message_id})
    await webhooks.post("twilio", "STOP", phone=PHONE, to=NUMBER)
    await stage.apply()
    if not receipt_first:
        await stage.receive("receipts", {"status": "delivered", "reference": message_id})
    assert await stage.status_of(message_id) == ["delivered"]
    assert await next_message(stage, stage.organisation) == "opted_out"


async def test_a_stop_to_a_shared_number_counts_for_each_organisation_that_messaged_the_phone_from_it(
    stage: WebhookStage,
) -> None:
    old, _, _, last = await sent_from(stage, "org_old", "org_first", "org_off", "org_last")
    await stage.sent(stage.due(organisation_id="org_other_number"))
    await stage.execute("UPDATE messages SET created_at = now() - interval '91 days' WHERE id = :id", id=old)
    await stage.execute("UPDATE messages SET created_at = now() + interval '1 s' WHERE id = :id", id=last)
    await stage.execute(
        "INSERT INTO configs (organisation_id, name, value) VALUES ('org_off', 'stop_words_off', 'CANCEL')"
    )
    await stage.post("inbound", {"text": "cancel", "to": NUMBER})
    await stage.apply(SHARED)
    stored = await stage.rows(MESSAGES)
    assert [(row.organisation_id, row.keyword) for row in stored] == [("org_last", "stop"), ("org_first", "stop")]
    opted_out = await stage.rows("SELECT organisation_id, message_id FROM opt_outs WHERE opted_out ORDER BY 1")
    assert [row.organisation_id for row in opted_out] == ["org_first", "org_last"]
    owners = {
        row.id: row.organisation_id for row in await stage.rows("SELECT id, organisation_id FROM inbound_messages")
    }
    assert all(owners[row.message_id] == row.organisation_id for row in opted_out)
    events = await stage.events()
    for kind in (MessageReceived, OptOutChanged):
        assert sorted(e.organisation_id for e in events if isinstance(e, kind)) == ["org_first", "org_last"]
    assert len(await stage.auto_replies()) == 1, "the person gets one auto-reply"
    assert await next_message(stage, "org_other_number") == "sent"


async def test_another_message_to_a_shared_number_is_seen_by_the_last_organisation_alone(stage: WebhookStage) -> None:
    first, _ = await sent_from(stage, "org_first", "org_last")
    await stage.execute("UPDATE messages SET created_at = now() - interval '1 hour' WHERE id = :id", id=first)
    for content in ("See you!", "START", "help"):
        await stage.post("inbound", {"text": content, "to": NUMBER})
        await stage.apply(SHARED)
    assert {row.organisation_id for row in await stage.rows(MESSAGES)} == {"org_last"}


async def test_a_repeated_stop_to_a_shared_number_is_stored_once_for_each_organisation(stage: WebhookStage) -> None:
    await sent_from(stage, "org_a", "org_b")
    for _ in range(2):
        await stage.post("inbound", {"id": "same", "text": "STOP", "to": NUMBER})
        await stage.apply(SHARED)
        (event,) = await stage.rows("SELECT message_id FROM webhook_events")
        assert event.message_id == (await stage.rows("SELECT min(id) AS id FROM inbound_messages"))[0].id
        await stage.execute("DELETE FROM webhook_events")
    assert sorted(row.organisation_id for row in await stage.rows(MESSAGES)) == ["org_a", "org_b"]


async def test_a_message_without_a_match_is_stored_logged_once_and_hidden_from_every_tenant(
    stage: WebhookStage,
) -> None:
    with capture_logs() as logs:
        await stage.receive("inbound", {"text": "Stop"}, {"text": "Hi"})
        await stage.execute("UPDATE webhook_events SET due_at = now()")
        await stage.apply()
    warnings = [(entry["count"], entry["opt_outs"]) for entry in logs if entry["event"] == "inbound messages unmatched"]
    assert warnings == [(2, 1)]
    assert {(row.organisation_id, row.keyword) for row in await stage.rows(MESSAGES)} == {(None, "stop"), (None, None)}
    async with stage.database.all_tenants() as session:
        assert await service.count_unmatched(session, ALL) == (2, 1)
    for organisation in (stage.organisation, "", "org_other"):
        async with stage.database.tenant(organisation) as session:
            assert await session.scalar(text("SELECT count(*) FROM inbound_messages")) == 0
            changed = await session.execute(text("UPDATE inbound_messages SET organisation_id = 'org_other'"))
            assert changed.rowcount == 0  # type: ignore[attr-defined]
    with pytest.raises(ProgrammingError, match="row-level security"):
        async with stage.database.tenant(stage.organisation) as session:
            await session.execute(
                text(
                    "INSERT INTO inbound_messages (phone, to_number, text, received_at, provider)"
                    " VALUES ('+61453000001', '', 'Hi', now(), 'twilio')"
                )
            )
    assert [event for event in await stage.events() if isinstance(event, MessageReceived)] == []


async def match(stage: WebhookStage, choice: UnmatchedChoice = ALL, policy: InboundPolicy | None = None) -> int:
    """Match stored messages again, in small batches, and return how many have an organisation now."""
    found, after = 0, 0
    while True:
        async with stage.database.all_tenants() as session:
            matched, last = await service.match_unmatched(session, policy or InboundPolicy(), choice, after, 2)
        found += matched
        if last is None:
            return found
        after = last


async def test_stored_messages_match_after_the_sender_id_was_assigned(stage: WebhookStage) -> None:
    other = "+61491570158"
    for to in (other, "61491570156", other):
        await stage.receive("inbound", {"text": "STOP" if to == other else "Hi", "to": to})
    await stage.receive("inbound", {"text": "Hi", "to": other, "phone": "+61453000002"})
    await stage.execute("DELETE FROM webhook_events")
    before = await stage.rows("SELECT id, to_number FROM inbound_messages ORDER BY id")
    assert await match(stage) == 0
    await stage.assign(other)
    assert await match(stage, UnmatchedChoice(to="+61491570156")) == 0
    assert await match(stage) == 3
    rows = await stage.rows("SELECT id, organisation_id, keyword FROM inbound_messages ORDER BY id")
    assert [row.id for row in rows] == [row.id for row in before]
    found = [(row.organisation_id, row.keyword) for row in rows]
    mine = stage.organisation
    assert found == [(mine, "stop"), (None, None), (mine, "stop"), (mine, None)]
    assert await next_message(stage, mine) == "opted_out"
    assert await stage.auto_replies() == []
    received = [event for event in await stage.events() if isinstance(event, MessageReceived)]
    assert [event.message_id for event in received] == [rows[0].id, rows[2].id, rows[3].id]
    assert await match(stage) == 0


def days_ago(days: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat()


async def test_a_stored_stop_does_not_undo_a_newer_start(stage: WebhookStage) -> None:
    await stage.receive("inbound", {"text": "STOP", "received_at": days_ago(5)})
    await stage.execute("DELETE FROM webhook_events")
    await stage.assign(NUMBER)
    await stage.receive("inbound", {"text": "STOP", "received_at": days_ago(2)})
    await stage.receive("inbound", {"text": "START"})
    assert await match(stage) == 1
    assert await stage.opted_out() == [False]


async def test_a_stored_keyword_counts_as_the_organisation_has_it(stage: WebhookStage) -> None:
    await stage.receive("inbound", {"text": "cancel"}, {"text": "Go away", "keyword": "stop", "phone": "+61453000002"})
    await stage.set_config("stop_words_off", "CANCEL")
    await stage.assign(NUMBER)
    assert await match(stage) == 2
    rows = await stage.rows("SELECT phone, opted_out FROM opt_outs")
    assert [(row.phone, row.opted_out) for row in rows] == [("+61453000002", True)]


async def test_a_stored_message_does_not_match_an_organisation_that_messaged_the_phone_much_later(
    stage: WebhookStage,
) -> None:
    await stage.receive("inbound", {"text": "Hi"})
    await stage.execute("UPDATE inbound_messages SET created_at = now() - interval '4 days'")
    await sent_from(stage, stage.organisation)
    assert await match(stage, policy=SHARED) == 0
    await stage.execute("UPDATE messages SET created_at = now() - interval '2 days'")
    assert await match(stage, policy=SHARED) == 1


async def test_the_worker_and_the_command_match_a_message_once(stage: WebhookStage) -> None:
    await stage.receive("inbound", {"text": "STOP"})
    await stage.assign(NUMBER)
    assert await match(stage) == 1
    await stage.execute("UPDATE webhook_events SET due_at = now()")
    await stage.apply()
    (row,) = await stage.rows("SELECT id, organisation_id FROM inbound_messages")
    assert row.organisation_id == stage.organisation
    (event,) = await stage.rows("SELECT due_at, message_id FROM webhook_events")
    assert event == (None, row.id)
    assert len([e for e in await stage.events() if isinstance(e, MessageReceived)]) == 1
