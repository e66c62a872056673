"""Senders are assigned, listed and removed; nobody is given what is another's or everybody's."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

Operator = Callable[..., Awaitable[tuple[int, str]]]
NUMBER = "0491 570 006"


async def test_a_sender_is_assigned_listed_and_removed_however_it_is_spelt(operator: Operator, sql: Any) -> None:
    assert await operator("senders", "list") == (0, "no sender is assigned\n")
    for sender in (NUMBER, "+61491570006"):
        told = await operator("senders", "assign", "--sender", sender, "--organisation", "org_mine")
        assert told == (0, "0491570006 belongs to org_mine\n")
    code, _ = await operator("senders", "assign", "--sender", "Fern", "--organisation", "org_other")
    assert code == 0
    code, told = await operator("senders", "list")
    lines = [line.split()[:3] for line in told.splitlines()]
    assert (code, lines) == (0, [["org_mine", "0491570006", "since"], ["org_other", "fern", "since"]])
    stored = await sql("delivery", "SELECT sender FROM senders ORDER BY sender")
    assert [row.sender for row in stored] == ["+61491570006", "fern"]
    code, told = await operator("senders", "remove", "--sender", "FERN")
    assert (code, told) == (0, "fern belongs to org_other no more\n")
    assert await operator("senders", "remove", "--sender", "Fern") == (1, "fern is not assigned\n")


async def test_what_belongs_to_another_organisation_is_removed_there_first(operator: Operator, sql: Any) -> None:
    await operator("senders", "assign", "--sender", NUMBER, "--organisation", "org_mine")
    code, told = await operator("senders", "assign", "--sender", "0491570006", "--organisation", "org_other")
    assert (code, "belongs to org_mine: remove it there first" in told) == (2, True)
    assert [row.organisation_id for row in await sql("delivery", "SELECT * FROM senders")] == ["org_mine"]
    await operator("senders", "remove", "--sender", NUMBER)
    code, _ = await operator("senders", "assign", "--sender", NUMBER, "--organisation", "org_other")
    assert code == 0
    assert [row.organisation_id for row in await sql("delivery", "SELECT * FROM senders")] == ["org_other"]


@pytest.mark.parametrize(
    ("sender", "organisation", "told"),
    [
        ("cooee", "org_mine", "default of this installation"),
        ("0491 570 110", "org_mine", "default of this installation"),
        ("12345", "org_mine", "--sender"),
        (NUMBER, " ", "--organisation"),
    ],
)
async def test_what_cannot_be_assigned_is_said(
    operator: Operator, sql: Any, sender: str, organisation: str, told: str
) -> None:
    words = ("senders", "assign", "--sender", sender, "--organisation", organisation)
    code, said = await operator(*words, AWS_SENDER="+61491570110")
    assert (code, told in said) == (2, True), said
    assert await sql("delivery", "SELECT 1 FROM senders") == []
