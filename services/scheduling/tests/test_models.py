"""The statuses and kinds that the SQL of the features names, and the typed rows of the view."""

import importlib
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from sqlalchemy import TextClause

import scheduling
from scheduling.models import FINAL, OPEN, Schedule, ScheduleKind, ScheduleStatus
from services.scheduling.tests.stage import Stage

_LITERAL = re.compile(r"\b(status|kind) (?:=|<>) '(\w+)'")


def statements() -> Iterator[tuple[str, str]]:
    """Yield the name and the SQL of every statement of the repositories."""
    for path in sorted(Path(str(scheduling.__file__)).parent.glob("*/repository.py")):
        module = importlib.import_module(f"scheduling.{path.parent.name}.repository")
        for name, value in vars(module).items():
            if isinstance(value, TextClause):
                yield f"{path.parent.name}{name}", value.text


@pytest.mark.parametrize(("name", "sql"), list(statements()), ids=[name for name, _ in statements()])
def test_a_statement_names_only_known_statuses_and_kinds(name: str, sql: str) -> None:
    known: dict[str, set[str]] = {"status": set(ScheduleStatus), "kind": set(ScheduleKind)}
    unknown = [(column, value) for column, value in _LITERAL.findall(sql) if value not in known[column]]
    assert not unknown, name


def test_a_status_is_either_open_or_final() -> None:
    assert set(OPEN) | set(FINAL) == set(ScheduleStatus)
    assert not set(OPEN) & set(FINAL)


async def test_the_view_has_the_columns_of_a_schedule(stage: Stage) -> None:
    columns = await stage.rows(
        "SELECT column_name AS name FROM information_schema.columns WHERE table_name = 'shown_schedules'"
    )
    assert {column.name for column in columns} == {field.name for field in fields(Schedule)}
