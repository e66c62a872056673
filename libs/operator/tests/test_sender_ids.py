"""Sender IDs are assigned, listed and removed. One that another organisation has, or all share, is not assigned."""

import pytest

from .conftest import Cooee, Sql

NUMBER = "0491 570 006"


async def test_sender_id_is_assigned_listed_and_removed_in_any_spelling(cooee: Cooee, sql: Sql) -> None:
    assert (await cooee("sender-ids", "list")).out == "no sender ID is assigned\n"
    for sender_id in (NUMBER, "+61491570006"):
        done = await cooee("sender-ids", "assign", "--sender", sender_id, "--organisation", "org_mine")
        assert (done.code, done.out) == (0, "0491570006 belongs to org_mine\n")
    done = await cooee("sender-ids", "assign", "--sender", "Fern", "--organisation", "org_other", "--json")
    unmatched = {"messages": 0, "opt_outs": 0}
    expected = {"sender_id": "fern", "organisation_id": "org_other", "unmatched": unmatched}
    assert (done.code, done.document) == (0, expected)
    listed = await cooee("sender-ids", "list")
    lines = [line.split()[:2] for line in listed.out.splitlines()[1:]]
    assert (listed.code, lines) == (0, [["org_mine", "0491570006"], ["org_other", "fern"]])
    found = (await cooee("sender-ids", "list", "--json")).document["sender_ids"]
    assert [[one["organisation_id"], one["sender_id"]] for one in found] == lines
    stored = await sql("delivery", "SELECT sender_id FROM sender_ids ORDER BY sender_id")
    assert [row.sender_id for row in stored] == ["+61491570006", "fern"]
    removed = await cooee("sender-ids", "remove", "--sender", "FERN")
    assert (removed.code, removed.out) == (0, "fern no longer belongs to org_other\n")
    removed = await cooee("sender-ids", "remove", "--sender", "Fern")
    assert (removed.code, removed.err) == (4, "cooee: fern is not assigned\n")


async def test_sender_id_of_another_organisation_must_be_removed_first(cooee: Cooee, sql: Sql) -> None:
    await cooee("sender-ids", "assign", "--sender", NUMBER, "--organisation", "org_mine")
    assign = ("sender-ids", "assign", "--sender", "0491570006", "--organisation", "org_other", "--json")
    refused = await cooee(*assign)
    assert (refused.code, refused.document["error"]["kind"]) == (5, "refused")
    assert "belongs to org_mine: remove it there first" in refused.err
    assert [row.organisation_id for row in await sql("delivery", "SELECT * FROM sender_ids")] == ["org_mine"]
    removed = await cooee("sender-ids", "remove", "--sender", NUMBER, "--json")
    assert removed.document == {"sender_id": "0491570006", "organisation_id": "org_mine"}
    assert (await cooee(*assign)).code == 0
    assert [row.organisation_id for row in await sql("delivery", "SELECT * FROM sender_ids")] == ["org_other"]


@pytest.mark.parametrize(
    ("sender_id", "organisation", "code", "error"),
    [
        ("cooee", "org_mine", 5, "default sender ID"),
        ("0491 570 110", "org_mine", 5, "default sender ID"),
        ("12345", "org_mine", 2, "--sender"),
        (NUMBER, " ", 2, "--organisation"),
    ],
)
async def test_impossible_assignment_is_refused_with_the_reason(
    cooee: Cooee, sql: Sql, sender_id: str, organisation: str, code: int, error: str
) -> None:
    arguments = ("sender-ids", "assign", "--sender", sender_id, "--organisation", organisation)
    providers = {"SMS_PROVIDERS": "mobile_message,aws", "AWS_SENDER": "+61491570110"}
    refused = await cooee(*arguments, **providers)
    assert (refused.code, error in refused.err) == (code, True), refused
    assert await sql("delivery", "SELECT 1 FROM sender_ids") == []


async def test_invalid_settings_of_a_provider_are_reported(cooee: Cooee) -> None:
    arguments = ("sender-ids", "assign", "--sender", NUMBER, "--organisation", "org_mine")
    refused = await cooee(*arguments, SMS_PROVIDERS="twilio")
    assert (refused.code, "TWILIO_ACCOUNT_SID" in refused.err) == (6, True)
