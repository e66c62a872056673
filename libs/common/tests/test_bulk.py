"""The columns of a bulk statement, and the newest version of each key."""

from typing import NamedTuple

import pytest
from sqlalchemy import text

from common.bulk import Columns
from common.database import Database
from common.versions import newest


class Note(NamedTuple):
    organisation_id: str
    body: str
    version: int


NOTE = Columns(organisation_id="text", body="text", version="int")


async def test_columns_insert_rows_with_attributes_and_given_columns(database: Database) -> None:
    statement = text(f"INSERT INTO notes ({', '.join(NOTE.names)}) SELECT * FROM {NOTE.unnest('new')}")
    rows = [Note("org_a", "first", 1), Note("org_a", "second", 2)]
    async with database.all_tenants() as session:
        await session.execute(statement, NOTE.bind(rows, version=[7, 8]))
        await session.execute(statement, NOTE.bind_tuples([("org_b", "third", 9)]))
        found = await session.execute(text("SELECT organisation_id, body, version FROM notes ORDER BY id"))
    assert [tuple(row) for row in found] == [("org_a", "first", 7), ("org_a", "second", 8), ("org_b", "third", 9)]


async def test_an_array_of_one_column_selects_rows(database: Database) -> None:
    async with database.all_tenants() as session:
        await session.execute(text("INSERT INTO notes (organisation_id, body) VALUES ('org_a', 'x'), ('org_a', 'y')"))
        statement = text(f"SELECT count(*) FROM notes WHERE body = ANY({NOTE.array('body')})")
        assert await session.scalar(statement, {"body": ["y", "z"]}) == 1


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_newest_keeps_the_highest_version_of_each_key_in_order_of_keys(order: tuple[int, ...]) -> None:
    notes = [Note("org_b", "old", 1), Note("org_b", "new", 2), Note("org_a", "only", 5)]
    found = newest((notes[place] for place in order), key=lambda n: n.organisation_id, version=lambda n: n.version)
    assert [(name, note.body) for name, note in found.items()] == [("org_a", "only"), ("org_b", "new")]
