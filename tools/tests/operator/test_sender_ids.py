"""Sender IDs are assigned, listed and removed. One that another organisation has, or all share, is not assigned."""

import pytest

from .conftest import Operator, Sql

NUMBER = "0491 570 006"


async def test_sender_id_is_assigned_listed_and_removed_in_any_spelling(operator: Operator, sql: Sql) -> None:
    assert await operator("senders", "list") == (0, "no sender ID is assigned\n")
    for sender_id in (NUMBER, "+61491570006"):
        result = await operator("senders", "assign", "--sender", sender_id, "--organisation", "org_mine")
        assert result == (0, "0491570006 belongs to org_mine\n")
    code, _ = await operator("senders", "assign", "--sender", "Fern", "--organisation", "org_other")
    assert code == 0
    code, output = await operator("senders", "list")
    lines = [line.split()[:3] for line in output.splitlines()]
    assert (code, lines) == (0, [["org_mine", "0491570006", "since"], ["org_other", "fern", "since"]])
    stored = await sql("delivery", "SELECT sender_id FROM sender_ids ORDER BY sender_id")
    assert [row.sender_id for row in stored] == ["+61491570006", "fern"]
    result = await operator("senders", "remove", "--sender", "FERN")
    assert result == (0, "fern no longer belongs to org_other\n")
    assert await operator("senders", "remove", "--sender", "Fern") == (1, "fern is not assigned\n")


async def test_sender_id_of_another_organisation_must_be_removed_first(operator: Operator, sql: Sql) -> None:
    await operator("senders", "assign", "--sender", NUMBER, "--organisation", "org_mine")
    code, output = await operator("senders", "assign", "--sender", "0491570006", "--organisation", "org_other")
    assert (code, "belongs to org_mine: remove it there first" in output) == (2, True)
    assert [row.organisation_id for row in await sql("delivery", "SELECT * FROM sender_ids")] == ["org_mine"]
    await operator("senders", "remove", "--sender", NUMBER)
    code, _ = await operator("senders", "assign", "--sender", NUMBER, "--organisation", "org_other")
    assert code == 0
    assert [row.organisation_id for row in await sql("delivery", "SELECT * FROM sender_ids")] == ["org_other"]


@pytest.mark.parametrize(
    ("sender_id", "organisation", "error"),
    [
        ("cooee", "org_mine", "default sender ID"),
        ("0491 570 110", "org_mine", "default sender ID"),
        ("12345", "org_mine", "--sender"),
        (NUMBER, " ", "--organisation"),
    ],
)
async def test_impossible_assignment_is_refused_with_the_reason(
    operator: Operator, sql: Sql, sender_id: str, organisation: str, error: str
) -> None:
    arguments = ("senders", "assign", "--sender", sender_id, "--organisation", organisation)
    providers = {"SMS_PROVIDERS": "mobile_message,aws", "AWS_SENDER": "+61491570110"}
    code, output = await operator(*arguments, **providers)
    assert (code, error in output) == (2, True), output
    assert await sql("delivery", "SELECT 1 FROM sender_ids") == []


async def test_invalid_settings_of_a_provider_are_reported(operator: Operator) -> None:
    arguments = ("senders", "assign", "--sender", NUMBER, "--organisation", "org_mine")
    code, output = await operator(*arguments, SMS_PROVIDERS="twilio")
    assert (code, "TWILIO_ACCOUNT_SID" in output) == (2, True)
