"""Sender IDs: how they are written, and which organisation has them."""

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from common.database import Database
from delivery.sender_ids import service
from delivery.sender_ids.rules import canonical_sender_id, read_sender_id

OTHER = "org_other"
Assign = Callable[..., Awaitable[None]]


@pytest.mark.parametrize("number", ["0412 345 678", "+61412345678", "61 412 345 678", "0412345678"])
def test_numbers_and_names_have_one_canonical_form(number: str) -> None:
    assert canonical_sender_id(number) == "+61412345678"
    assert canonical_sender_id("Cooee") == canonical_sender_id("COOEE") == "cooee"
    assert canonical_sender_id("My Shop") is canonical_sender_id("") is None


def test_a_sender_id_is_read_as_providers_accept_it() -> None:
    assert read_sender_id("0412 345 678") == "+61412345678"
    assert read_sender_id("Cooee") == "Cooee"
    assert read_sender_id("08 8123 4567") is None


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO sender_ids (sender_id, organisation_id) VALUES ('mine', :organisation)",
        "UPDATE sender_ids SET sender_id = 'other'",
        "DELETE FROM sender_ids",
    ],
)
async def test_an_organisation_sees_its_own_sender_ids_and_assigns_none(
    database: Database, assign: Assign, organisation: str, statement: str
) -> None:
    await assign("fern")
    await assign("oak", OTHER)
    async with database.tenant(organisation) as session:
        assert list(await session.scalars(text("SELECT sender_id FROM sender_ids"))) == ["fern"]
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.tenant(organisation) as session:
            await session.execute(text(statement), {"organisation": organisation} if ":" in statement else {})


async def test_a_sender_id_is_assigned_to_one_organisation_until_it_is_removed(database: Database) -> None:
    async with database.all_tenants() as session:
        assert await service.assign(session, "fern", "org_a") == "org_a"
        assert await service.assign(session, "fern", OTHER) == "org_a", "the first owner keeps it"
        assert await service.assign(session, "+61412345678", OTHER) == OTHER
        found = [(row.sender_id, row.organisation_id) for row in await service.list_all_tenants(session)]
        assert found == [("fern", "org_a"), ("+61412345678", OTHER)]
        assert await service.sender_id_owners(session, {"fern", "oak"}) == {"fern": "org_a"}
        assert [await service.remove(session, "fern") for _ in range(2)] == ["org_a", None]
        assert await service.assign(session, "fern", OTHER) == OTHER
