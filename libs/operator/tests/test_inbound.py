"""Inbound messages that match no organisation are listed, counted, and matched again after an assignment."""

import pytest

from .conftest import Cooee, Sql

NUMBER = "+61491570006"


def count(messages: int, opt_outs: int) -> str:
    """Return the last line of a list."""
    which = "message matches" if messages == 1 else "messages match"
    return f"{messages} inbound {which} no organisation (STOP: {opt_outs})\n"


async def add(
    sql: Sql, text: str, *, to: str = NUMBER, phone: str = "+61453000001", organisation: str | None = None
) -> int:
    """Store an inbound message as delivery does, and return its id."""
    statement = (
        "INSERT INTO inbound_messages (organisation_id, phone, to_number, text, received_at, provider, keyword,"
        " fingerprint) VALUES (:organisation, :phone, :to, :text, now(), 'twilio', :keyword,"
        " sha256(CAST(CAST(random() AS text) AS bytea))) RETURNING id"
    )
    keyword = "stop" if text == "STOP" else None
    values = {"organisation": organisation, "phone": phone, "to": to, "text": text, "keyword": keyword}
    (row,) = await sql("delivery", statement, **values)
    return int(row.id)


async def test_unmatched_messages_are_listed_and_counted_without_phones_and_texts(cooee: Cooee, sql: Sql) -> None:
    assert (await cooee("inbound", "list")).out == count(0, 0)
    stop, hello = await add(sql, "STOP"), await add(sql, "Hello Ana")
    await add(sql, "Of an organisation", organisation="org_mine")
    listed = await cooee("inbound", "list")
    lines = listed.out.splitlines(keepends=True)
    assert (listed.code, lines[-1]) == (1, count(2, 1))
    assert [line.split()[0] for line in lines[:-1]] == ["ID", str(hello), str(stop)]
    assert lines[1].split()[3:] == ["twilio", "+614…01", "0491570006", "-"]
    assert lines[2].split()[3:] == ["twilio", "+614…01", "0491570006", "stop"]
    as_json = await cooee("inbound", "list", "--json")
    assert as_json.document["unmatched"] == {"messages": 2, "opt_outs": 1}
    for output in (listed.out, as_json.out):
        assert not any(secret in output for secret in ("Ana", "453000001", "Of an"))
    shown = await cooee("inbound", "list", "--show-phones", "--show-texts", "--limit", "1")
    assert shown.out.splitlines()[1].split()[4:] == ["+61453000001", "0491570006", "-", "'Hello", "Ana'"]
    assert shown.out.endswith(count(2, 1)), "the limit is not about the count"


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--stop",), ["STOP"]),
        (("--sender", "0491 570 158"), ["to another"]),
        (("--sender", "FERN"), ["to a name"]),
        (("--phone", "0453 000 002"), ["of another"]),
        (("--phone", "0453000002", "--stop"), []),
    ],
)
async def test_listed_messages_are_chosen(cooee: Cooee, sql: Sql, options: tuple[str, ...], found: list[str]) -> None:
    await add(sql, "STOP")
    await add(sql, "to another", to="+61491570158")
    await add(sql, "to a name", to="Fern")
    await add(sql, "of another", phone="+61453000002")
    listed = await cooee("inbound", "list", "--json", "--show-texts", *options)
    assert [one["text"] for one in listed.document["inbound_messages"]] == found
    assert listed.code == (1 if found else 0)


async def test_a_stop_is_applied_after_its_sender_id_was_assigned(cooee: Cooee, sql: Sql) -> None:
    await add(sql, "STOP")
    await add(sql, "Hello", to="+61491570158")
    matched = await cooee("inbound", "match")
    assert (matched.code, matched.out) == (1, "0 inbound messages have an organisation now\n" + count(2, 1))
    assigned = await cooee("sender-ids", "assign", "--sender", NUMBER, "--organisation", "org_mine")
    unmatched = "1 inbound message to it matches no organisation (STOP: 1)"
    assert assigned.out == (
        f"0491570006 belongs to org_mine\n{unmatched}: run cooee inbound match --sender 0491570006\n"
    )
    matched = await cooee("inbound", "match", "--sender", "0491570006", "--json")
    assert matched.document == {"matched": 1, "unmatched": {"messages": 0, "opt_outs": 0}}
    assert matched.code == 0
    (row,) = await sql("delivery", "SELECT organisation_id, phone, opted_out FROM opt_outs")
    assert row == ("org_mine", "+61453000001", True)
    topics = [row.topic for row in await sql("delivery", "SELECT topic FROM outbox ORDER BY id")]
    assert topics == ["delivery.message-received.v1", "delivery.opt-out-changed.v1"]
    assert (await cooee("inbound", "list")).out.endswith(count(1, 0)), "the other one stays listed"
    assert (await cooee("inbound", "list", "--stop")).code == 0


async def test_a_phone_without_a_digit_is_wrong_usage(cooee: Cooee) -> None:
    refused = await cooee("inbound", "list", "--phone", "Ana")
    assert (refused.code, "--phone" in refused.err) == (2, True)


async def test_more_messages_than_a_batch_are_matched(cooee: Cooee, sql: Sql) -> None:
    await sql(
        "delivery",
        "INSERT INTO inbound_messages (phone, to_number, text, received_at, provider, fingerprint)"
        " SELECT '+614530' || lpad(CAST(n AS text), 5, '0'), :to, 'Hi', now(), 'twilio', sha256(CAST(CAST(n AS text)"
        " AS bytea)) FROM generate_series(1, 1001) n",
        to=NUMBER,
    )
    await cooee("sender-ids", "assign", "--sender", NUMBER, "--organisation", "org_mine")
    assert (await cooee("inbound", "match", "--json")).document["matched"] == 1001


async def test_invalid_settings_are_reported(cooee: Cooee, sql: Sql) -> None:
    refused = await cooee("inbound", "match", SMS_PROVIDERS="twilio")
    assert (refused.code, "TWILIO_ACCOUNT_SID" in refused.err) == (6, True)
