"""The busiest organisations are those with the most messages in the last minutes."""

from .conftest import Cooee, Sql
from .test_stuck import add_message


async def test_busiest_organisations_come_first(cooee: Cooee, sql: Sql) -> None:
    assert (await cooee("organisations", "busiest")).out.startswith("no messages since 20")
    for organisation, number in (("org_a", 1), ("org_b", 3), ("org_c", 2)):
        for _ in range(number):
            await add_message(sql, organisation, "sent", created_at="now() - interval '20 minutes'")
    for _ in range(5):
        await add_message(sql, "org_early", "sent", created_at="now() - interval '2 hours'")
    shown = await cooee("organisations", "busiest")
    assert [line.split() for line in shown.out.splitlines()] == [
        ["ORGANISATION", "MESSAGES"],
        ["org_b", "3"],
        ["org_c", "2"],
        ["org_a", "1"],
    ]
    longer = (await cooee("organisations", "busiest", "--minutes", "180", "--json")).document
    assert longer["organisations"][0] == {"organisation_id": "org_early", "messages": 5}
    assert (await cooee("organisations", "busiest", "--minutes", "10")).out.startswith("no messages since 20")
    for minutes in ("0", "1441", "x"):
        assert (await cooee("organisations", "busiest", "--minutes", minutes)).code == 2
