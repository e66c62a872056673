"""A changing command has a reason, a row before it begins, and one with its outcome, whatever happens to it."""

import argparse
import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from cooee import main
from cooee.audit import describe_arguments
from cooee.command import Command, Group, Report
from cooee.errors import CommandError, ExitCode
from cooee.stack import Stack

from .conftest import CHANGING, Cooee, Sql

ROWS = "SELECT * FROM operator_actions ORDER BY id"
ASSIGN = ("sender-ids", "assign", "--sender", "0491570006", "--organisation")


def use(monkeypatch: pytest.MonkeyPatch, run: Callable[[Stack, argparse.Namespace], Awaitable[Report]]) -> None:
    monkeypatch.setattr(main, "COMMANDS", (Command("act", "act", run, changes=True),))


async def act(cooee: Cooee) -> int:
    return (await cooee("act", "--reason", "ticket 12", "--operator", "ana")).code


def test_every_command_that_changes_data_is_a_changing_one() -> None:
    assert {
        *(("sender-ids", "assign"), ("sender-ids", "remove"), ("inbound", "match"), ("republish",), ("erase",)),
        *(("dead-letters", "replay"), ("dead-letters", "acknowledge"), ("providers", "send-test")),
    } <= CHANGING


async def test_an_action_has_a_row_before_it_begins_and_one_with_its_outcome(cooee: Cooee, sql: Sql) -> None:
    assert (await cooee(*ASSIGN, "org_mine", "--operator", "ana", reason="ticket 12")).code == 0
    assert (await cooee(*ASSIGN, "org_other", "--operator", "ben", reason="ticket 13")).code == 5
    rows = await sql("contacts", ROWS)
    assert [(row.step, row.action, row.operator, row.outcome, row.exit_code) for row in rows] == [
        ("begin", "sender-ids assign", "ana", None, None),
        ("end", "sender-ids assign", "ana", "done", 0),
        ("begin", "sender-ids assign", "ben", None, None),
        ("end", "sender-ids assign", "ben", "refused", 5),
    ]
    assert len({row.action_id for row in rows}) == 2
    assert {row.organisation_id for row in rows} == {"org_mine", "org_other"}
    assert rows[0].arguments == {"organisation": "org_mine", "sender": "0491570006"}


async def test_nothing_happens_without_a_row(cooee: Cooee, sql: Sql) -> None:
    failed = await cooee(*ASSIGN, "org_mine", CONTACTS_DATABASE_URL="postgresql://x:y@127.0.0.1:1/z")
    assert (failed.code, "contacts's database" in failed.err) == (3, True)
    assert await sql("delivery", "SELECT 1 FROM sender_ids") == []


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ((), "--reason"),
        (("--reason", "1234"), "--reason: enter a reason of 5 to 500"),
        (("--reason", "x" * 501), "--reason"),
        (("--reason", "asked by 0491 570 006"), "without a phone number"),
        (("--reason", "asked by 0491-57-00-06"), "without a phone number"),
        (("--reason", "asked by 0491\u2013570\u2013006"), "without a phone number"),
        (("--reason", "asked by 0491/570_006"), "without a phone number"),
        (("--reason", "ticket 12", "--operator", " "), "--operator"),
        (("--reason", "ticket 12", "--operator", "x" * 101), "--operator"),
    ],
)
async def test_an_action_without_a_valid_reason_is_refused(
    cooee: Cooee, sql: Sql, given: Sequence[str], error: str
) -> None:
    refused = await cooee(*ASSIGN, "org_mine", *given, reason=None)
    assert (refused.code, error in refused.err) == (2, True), refused
    assert await sql("delivery", "SELECT 1 FROM sender_ids") == []
    assert await sql("contacts", ROWS) == []


async def test_an_action_that_fails_leaves_its_rows(cooee: Cooee, sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> Report:
        raise KeyError("lost")

    async def fail_by_error(*_: object) -> Report:
        raise CommandError("lost")

    async def cancel(*_: object) -> Report:
        raise asyncio.CancelledError

    use(monkeypatch, fail)
    assert await act(cooee) == 70
    use(monkeypatch, fail_by_error)
    assert await act(cooee) == 70
    use(monkeypatch, cancel)
    with pytest.raises(asyncio.CancelledError):
        await act(cooee)
    rows = await sql("contacts", ROWS)
    assert [(row.outcome, row.exit_code) for row in rows if row.step == "end"] == [
        ("failed", 70),
        ("failed", 70),
        ("failed", 130),
    ]


async def test_the_first_row_is_committed_before_the_action_begins(
    cooee: Cooee, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    async def look(*_: object) -> Report:
        seen.extend(await sql("contacts", ROWS))
        return Report({}, ["found"], ExitCode.FOUND)

    use(monkeypatch, look)
    assert await act(cooee) == 1
    assert [row.step for row in seen] == ["begin"]
    assert [(row.outcome, row.exit_code) for row in await sql("contacts", ROWS)] == [(None, None), ("done", 1)]


async def test_a_result_counts_when_its_end_cannot_be_recorded(cooee: Cooee, monkeypatch: pytest.MonkeyPatch) -> None:
    async def disconnect(stack: Stack, _: argparse.Namespace) -> Report:
        stack.environment = {**stack.environment, "CONTACTS_DATABASE_URL": "postgresql://x:y@127.0.0.1:1/z"}
        return Report({}, ["done"])

    use(monkeypatch, disconnect)
    done = await cooee("act", "--reason", "ticket 12")
    assert (done.code, done.out.splitlines()[-1]) == (0, "done")
    assert "end of action not recorded" in done.out + done.err


async def test_actions_are_listed_newest_first_and_in_pages(cooee: Cooee) -> None:
    assert (await cooee("actions")).out == "no actions\n"
    for number in range(3):
        await cooee(*ASSIGN, "org_mine", "--operator", "ana" if number else "ben", reason=f"ticket {number}")
    first = (await cooee("actions", "--limit", "2", "--json")).document
    rest = (await cooee("actions", "--before", str(first["next"]), "--json")).document
    assert [one["reason"] for one in first["actions"] + rest["actions"]] == ["ticket 2", "ticket 1", "ticket 0"]
    assert rest["next"] is None
    assert len((await cooee("actions", "--operator", "ben", "--json")).document["actions"]) == 1
    assert (await cooee("actions", "--organisation", "org_other", "--json")).document["actions"] == []
    listed = (await cooee("actions", "--limit", "1")).out.splitlines()
    assert re.split(" {2,}", listed[1])[2:7] == ["sender-ids assign", "ana", "org_mine", "done (0)", "ticket 2"]
    assert listed[-1].startswith("for older ones add --before ")


def test_arguments_are_recorded_without_phones_texts_and_passwords() -> None:
    parsed = main.parse(
        ["providers", "send-test", "--provider", "twilio", "--to", "0491 570 006", "--text", "Hi Ana", "--yes"]
        + ["--reason", "ticket 12"]
    )
    assert (parsed.action, describe_arguments(vars(parsed))) == (
        "providers send-test",
        {"provider": "twilio", "text": "(6 characters)", "to": "0491…06", "yes": True},
    )
    assert describe_arguments(
        {
            "phone": "12345",
            "id": list(range(60)),
            "source": "postgresql://user:secret@host:5432/old?sslkey=secret",
            "dsn": "host=a password=secret",
            "note": "for 0491570006" + "x" * 300,
            "organisation": "0491570006",
            "provider": "org_12345678901",
            "none": None,
            "off": False,
        }
    ) == {
        "phone": "1234…45",
        "id": [*range(50), "and 10 more"],
        "organisation": "0491…06",
        "provider": "org_12345678901",
        "source": "postgresql://host/old",
        "dsn": "(hidden)",
        "note": ("for 0491…06" + "x" * 300)[:200],
    }


@pytest.mark.parametrize(
    "source",
    [
        "mover:secret@127.0.0.1/v2",
        "postgresql:/mover:secret@host/v2",
        "host=127.0.0.1 user=mover passwd=secret",
        "postgresql://mover:sec/ret@127.0.0.1/v2",
        "postgresql://mover:secret@[::1",
    ],
)
def test_an_address_that_cannot_be_read_is_hidden(source: str) -> None:
    assert describe_arguments({"source": source}) == {"source": "(hidden)"}


def test_a_name_with_a_phone_is_masked() -> None:
    given = {"organisation": "Ana 0491570006", "provider": "Ana 0491570006", "sender": "Ana 0491570006"}
    assert describe_arguments(given) == dict.fromkeys(given, "Ana 0491…06")


def test_help_of_a_changing_command_names_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    for one in main.COMMANDS:
        for command in one.commands if isinstance(one, Group) else (one,):
            names = (one.name, command.name) if isinstance(one, Group) else (one.name,)
            with pytest.raises(SystemExit):
                main.parse([*names, "--help"])
            assert ("--reason" in capsys.readouterr().out) == command.changes, names
