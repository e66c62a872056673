"""`cooee erase` removes a person from every service, keeps counts, usage and opt-outs, and can be repeated."""

from typing import Any

import pytest

from .conftest import Cooee, Sql

PHONE, OTHER = "+61491570006", "+61491570156"
ERASE = ("erase", "--phone", "0491 570 006", "--reason", "request 12", "--operator", "ana", "--json")
CONTACTS = """
    INSERT INTO contacts (organisation_id, phone, first_name, last_name, email, company, opt_out, opted_out_at,
                          opt_out_source)
    VALUES ('org_1', :phone, 'Ana', 'Silva', 'a@b.test', 'Fern', true, now(), 'manual'),
           ('org_2', :phone, 'Ana', '', '', '', false, NULL, NULL),
           ('org_1', :other, 'Ben', '', '', '', false, NULL, NULL)
"""
SCHEDULES = """
    INSERT INTO schedules (organisation_id, kind, status, contact_id, phone, fields, name, text, scheduled_time, format,
                           failure_category, error)
    SELECT 'org_' || o, 'single', s, c, p, jsonb_build_object('first_name', w), 'For ' || w, 'Hi ' || w, now(), 'sms',
           'unknown', 'x'
    FROM (VALUES (1, 'pending', 1, :phone, 'Ana'), (1, 'sent', NULL, :phone, 'Ana'), (2, 'failed', 2, :other, 'Ana'),
                 (1, 'processing', NULL, :phone, 'Ana'), (1, 'sent', 3, :other, 'Ben')) AS rows (o, s, c, p, w)
"""
MESSAGES = """
    INSERT INTO messages (organisation_id, schedule_id, dispatch_number, contact_id, phone, text, format, parts,
                          scheduled_time, period, lane, request_id, deadline, status)
    SELECT 'org_' || o, n, 1, c, p, CASE c WHEN 3 THEN 'Hi Ben' ELSE 'Hi Ana' END, 'sms', 1, now(),
           '2026-11-01', 'single', '', now() + interval '1 day', s
    FROM (VALUES (1, 1, 'delivered', 1, :phone), (2, 1, 'queued', NULL, :phone), (3, 2, 'sent', 2, :other),
                 (4, 1, 'sending', NULL, :phone), (5, 1, 'sent', 3, :other)) AS rows (n, o, s, c, p)
"""
DELIVERY = (
    "INSERT INTO limit_usage (organisation_id, period, format, usage) VALUES ('org_1', '2026-11-01', 'sms', 9)",
    """
    INSERT INTO inbound_messages (organisation_id, phone, to_number, text, received_at, provider, media_urls,
                                  fingerprint)
    VALUES ('org_1', :phone, '', 'I am Ana', now(), 'x', '{http://x/1}', 'i'),
           (NULL, :phone, '', 'Ana', now(), 'x', '{}', 'j'),
           ('org_1', :other, '', 'I am Ben', now(), 'x', '{}', 'k')
    """,
    """
    INSERT INTO webhook_events (provider, fingerprint, kind, body, request_id, message_id, due_at)
    VALUES ('x', 'i', 'inbound', '{"text": "I am Ana"}', '', NULL, NULL), ('x', 'k', 'inbound', '{}', '', NULL, NULL),
           ('x', 'r', 'receipt', '{}', '', 1, NULL), ('x', 's', 'receipt', '{}', '', 5, NULL)
    """,
)
DEAD_LETTER = """
    INSERT INTO dead_letters (topic, kafka_partition, kafka_offset, sha256, body, error)
    SELECT 't', 0, n, '', convert_to('{"phone": "' || p || '"}', 'UTF8'), 'x'
    FROM (VALUES (1, :phone), (2, :other)) AS rows (n, p)
"""


@pytest.fixture
async def person(sql: Sql) -> None:
    """Store a person with the phone in two organisations, beside another person."""
    await sql("contacts", CONTACTS, phone=PHONE, other=OTHER)
    await sql("scheduling", SCHEDULES, phone=PHONE, other=OTHER)
    await sql("delivery", MESSAGES, phone=PHONE, other=OTHER)
    for statement in DELIVERY:
        given = {name: value for name, value in (("phone", PHONE), ("other", OTHER)) if f":{name}" in statement}
        await sql("delivery", statement.replace("http:", "http\\:").replace('"text":', '"text"\\:'), **given)
    for service in ("contacts", "scheduling", "delivery"):
        await sql(service, DEAD_LETTER.replace('"phone":', '"phone"\\:'), phone=PHONE, other=OTHER)


async def dump(sql: Sql, service: str, *tables: str) -> str:
    return " ".join([str(await sql(service, f"SELECT to_jsonb(t) FROM {table} t ORDER BY 1")) for table in tables])


@pytest.mark.usefixtures("person")
async def test_a_person_is_erased_everywhere_and_nobody_else(cooee: Cooee, sql: Sql) -> None:
    done = await cooee(*ERASE)
    assert (done.code, done.document["complete"]) == (1, False), done.err  # one message is being sent
    assert {row.phone for row in await sql("contacts", "SELECT phone FROM contacts WHERE NOT is_active")} == {PHONE}
    counts: dict[str, dict[str, int]] = done.document["counts"]
    assert counts["contacts"] == {"contacts": 0, "dead_letters": 1, "outbox": 2}
    expected = {"schedules": 3, "cancelled": 1, "open": 1, "dead_letters": 1, "outbox": 0}
    assert counts["scheduling"] == expected
    messages = {"messages": 3, "cancelled": 1, "open": 1, "inbound_messages": 2, "webhook_events": 2}
    assert {name: counts["delivery"][name] for name in messages} == messages

    await sql("scheduling", "UPDATE schedules SET status = 'sent' WHERE status = 'processing'")
    await sql("delivery", "UPDATE messages SET status = 'sent' WHERE status = 'sending'")
    done = await cooee(*ERASE)
    assert (done.code, done.document["complete"]) == (0, True), done.err
    found = await dump(sql, "contacts", "contacts", "dead_letters", "erasures")
    found += await dump(sql, "scheduling", "schedules", "dead_letters")
    found += await dump(sql, "delivery", "messages", "inbound_messages", "webhook_events", "dead_letters")
    for personal in ("Ana", "Silva", "a@b.test", "http://x/1", PHONE, PHONE[1:]):
        assert personal not in found, personal
    assert all(kept in found for kept in ("I am Ben", "Hi Ben", "For Ben", OTHER))
    assert [row.n for row in await sql("delivery", "SELECT count(*) AS n FROM messages")] == [5]
    assert [row.usage for row in await sql("delivery", "SELECT usage FROM limit_usage")] == [8]  # the cancelled one


@pytest.mark.usefixtures("person")
async def test_a_second_run_changes_nothing_and_each_has_a_record_without_the_phone(cooee: Cooee, sql: Sql) -> None:
    await sql("scheduling", "DELETE FROM schedules WHERE status = 'processing'")
    await sql("delivery", "DELETE FROM messages WHERE status = 'sending'")
    assert (await cooee(*ERASE)).document["complete"]
    tables: dict[str, tuple[str, ...]] = {
        "contacts": ("contacts", "outbox"),
        "scheduling": ("schedules",),
        "delivery": ("messages", "inbound_messages", "webhook_events", "opt_outs", "erased_opt_outs", "outbox"),
    }
    before = [await dump(sql, service, *names) for service, names in tables.items()]
    again = await cooee(*ERASE)
    counts = [found | {"outbox": 0} for found in again.document["counts"].values()]
    assert {number for found in counts for number in found.values()} == {0}
    assert [await dump(sql, service, *names) for service, names in tables.items()] == before
    records: list[Any] = await sql("contacts", "SELECT * FROM erasures ORDER BY id")
    assert [(one.operator, one.reason, one.counts["contacts"]["contacts"]) for one in records] == [
        ("ana", "request 12", 2),
        ("ana", "request 12", 0),
    ]
    assert all(one.finished_at is not None and PHONE not in str(one) for one in records)


@pytest.mark.usefixtures("person")
async def test_opt_outs_stay_with_a_hash_of_the_phone(cooee: Cooee, sql: Sql) -> None:
    await sql("scheduling", "DELETE FROM schedules WHERE status = 'processing'")
    await sql("delivery", "UPDATE messages SET status = 'sent' WHERE status = 'sending'")
    opt_outs = "INSERT INTO opt_outs (organisation_id, phone, opted_out, changed_at, source, version)"
    for service in ("contacts", "delivery"):
        await sql(service, f"{opt_outs} VALUES ('org_3', :phone, true, now(), 'reply', 1)", phone=PHONE)
    assert (await cooee(*ERASE)).document["complete"]
    for service in ("contacts", "delivery"):
        assert PHONE[1:] not in await dump(sql, service, "opt_outs", "erased_opt_outs")
        kept = await sql(
            service,
            "SELECT organisation_id, phone_hash = erased_phone_hash(organisation_id, :phone) AS matches"
            " FROM erased_opt_outs ORDER BY organisation_id",
            phone=PHONE,
        )
        assert [tuple(row) for row in kept] == [("org_1", True), ("org_3", True)]


@pytest.mark.usefixtures("person")
async def test_one_organisation_keeps_others_as_they_are(cooee: Cooee, sql: Sql) -> None:
    await cooee(*ERASE, "--organisation", "org_2")
    rows = await sql("contacts", "SELECT organisation_id, phone, is_active FROM contacts ORDER BY id")
    assert [tuple(row) for row in rows] == [
        ("org_1", PHONE, True),
        ("org_2", "erased-2", False),
        ("org_1", OTHER, True),
    ]
    rows = await sql("delivery", "SELECT schedule_id FROM messages WHERE phone = 'erased'")
    assert [row.schedule_id for row in rows] == [3]
    assert len(await sql("delivery", "SELECT 1 FROM inbound_messages WHERE phone = :phone", phone=PHONE)) == 2


@pytest.mark.usefixtures("person")
async def test_a_dry_run_counts_and_changes_nothing(cooee: Cooee, sql: Sql) -> None:
    before = await dump(sql, "contacts", "contacts", "erasures") + await dump(sql, "delivery", "messages")
    done = await cooee(*ERASE, "--dry-run")
    counts = done.document["counts"]
    assert (done.code, done.document["dry_run"], counts["contacts"]["contacts"]) == (0, True, 2)
    assert (counts["scheduling"]["schedules"], counts["delivery"]["messages"]) == (3, 4)
    assert await dump(sql, "contacts", "contacts", "erasures") + await dump(sql, "delivery", "messages") == before


@pytest.mark.usefixtures("person")
async def test_an_interrupted_erasure_is_finished_by_the_next_run(
    cooee: Cooee, sql: Sql, monkeypatch: pytest.MonkeyPatch, urls: dict[str, str]
) -> None:
    lost = await cooee(*ERASE, DELIVERY_DATABASE_URL="postgresql://x:y@127.0.0.1:1/z")
    assert lost.code == 3
    assert {row.phone for row in await sql("contacts", "SELECT phone FROM contacts WHERE NOT is_active")} == {PHONE}
    monkeypatch.setenv("DELIVERY_DATABASE_URL", urls["delivery"])
    await sql("scheduling", "UPDATE schedules SET status = 'sent' WHERE status = 'processing'")
    await sql("delivery", "UPDATE messages SET status = 'sent' WHERE status = 'sending'")
    counts = (await cooee(*ERASE)).document["counts"]
    assert (counts["contacts"]["contacts"], counts["delivery"]["messages"]) == (2, 4)


@pytest.mark.parametrize(
    "wrong",
    [("--phone", "12"), ("--reason", " "), ("--reason", "for 0491 570 006"), ("--operator", "0491570006")],
)
async def test_a_wrong_value_is_refused_before_anything_is_done(cooee: Cooee, sql: Sql, wrong: tuple[str, str]) -> None:
    refused = await cooee(*ERASE, *wrong)
    assert (refused.code, wrong[0] in refused.err) == (2, True), refused
    assert await sql("contacts", "SELECT 1 FROM erasures") == []
