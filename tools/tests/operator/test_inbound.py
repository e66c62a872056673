"""Inbound messages that match no organisation are listed, counted, and matched again after an assignment."""

import pytest

from .conftest import Operator, Sql

NUMBER = "+61491570006"
COUNT = "{} inbound messages match no organisation, {} of them say STOP\n"


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


async def test_unmatched_messages_are_listed_and_counted_without_phones_and_texts(operator: Operator, sql: Sql) -> None:
    assert await operator("inbound", "list") == (0, COUNT.format(0, 0))
    stop, hello = await add(sql, "STOP"), await add(sql, "Hello Ana")
    await add(sql, "Of an organisation", organisation="org_mine")
    code, output = await operator("inbound", "list")
    lines = output.splitlines(keepends=True)
    assert (code, lines[-1]) == (1, COUNT.format(2, 1))
    assert [int(line.split()[0]) for line in lines[:-1]] == [hello, stop]
    assert "twilio  +614…01 to 0491570006 (no keyword)" in lines[0]
    assert "twilio  +614…01 to 0491570006 (stop)" in lines[1]
    assert not any(secret in output for secret in ("Ana", "453000001", "Of an"))
    _, output = await operator("inbound", "list", "--reveal", "--limit", "1")
    assert "+61453000001 to 0491570006: 'Hello Ana'" in output
    assert output.endswith(COUNT.format(2, 1)), "the limit is not about the count"


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
async def test_listed_messages_are_chosen(
    operator: Operator, sql: Sql, options: tuple[str, ...], found: list[str]
) -> None:
    await add(sql, "STOP")
    await add(sql, "to another", to="+61491570158")
    await add(sql, "to a name", to="Fern")
    await add(sql, "of another", phone="+61453000002")
    code, output = await operator("inbound", "list", "--reveal", *options)
    assert [line.split("'")[1] for line in output.splitlines()[:-1]] == found
    assert code == (1 if found else 0)


async def test_a_stop_is_applied_after_its_sender_id_was_assigned(operator: Operator, sql: Sql) -> None:
    await add(sql, "STOP")
    await add(sql, "Hello", to="+61491570158")
    code, output = await operator("inbound", "match")
    assert (code, output) == (1, "0 inbound messages have an organisation now\n" + COUNT.format(2, 1))
    _, output = await operator("senders", "assign", "--sender", NUMBER, "--organisation", "org_mine")
    assert output == (
        "0491570006 belongs to org_mine\n"
        "1 inbound messages to it match no organisation, 1 of them say STOP: run inbound match --sender 0491570006\n"
    )
    code, output = await operator("inbound", "match", "--sender", "0491570006")
    assert (code, output) == (0, "1 inbound messages have an organisation now\n" + COUNT.format(0, 0))
    (row,) = await sql("delivery", "SELECT organisation_id, phone, opted_out FROM opt_outs")
    assert row == ("org_mine", "+61453000001", True)
    topics = [row.topic for row in await sql("delivery", "SELECT topic FROM outbox ORDER BY id")]
    assert topics == ["delivery.message-received.v1", "delivery.opt-out-changed.v1"]
    assert (await operator("inbound", "list"))[1].endswith(COUNT.format(1, 0)), "the other one stays listed"
    assert await operator("inbound", "list", "--stop") == (0, COUNT.format(0, 0))


async def test_more_messages_than_a_batch_are_matched(operator: Operator, sql: Sql) -> None:
    await sql(
        "delivery",
        "INSERT INTO inbound_messages (phone, to_number, text, received_at, provider, fingerprint)"
        " SELECT '+614530' || lpad(CAST(n AS text), 5, '0'), :to, 'Hi', now(), 'twilio', sha256(CAST(CAST(n AS text)"
        " AS bytea)) FROM generate_series(1, 1001) n",
        to=NUMBER,
    )
    await operator("senders", "assign", "--sender", NUMBER, "--organisation", "org_mine")
    assert (await operator("inbound", "match"))[1].startswith("1001 inbound messages have an organisation now")


async def test_invalid_settings_are_reported(operator: Operator, sql: Sql) -> None:
    code, output = await operator("inbound", "match", SMS_PROVIDERS="twilio")
    assert (code, "TWILIO_ACCOUNT_SID" in output) == (2, True)
