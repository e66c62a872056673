"""Messages are found by organisation and by the provider's id, and an organisation is shown with what it has."""

from .conftest import Cooee, Sql
from .test_stuck import PHONE, add_message


async def test_messages_are_listed_with_masked_phones_page_by_page(cooee: Cooee, sql: Sql, organisation: str) -> None:
    ids = [
        await add_message(sql, organisation, "sent", created_at=f"now() - interval '{hours} hours'")
        for hours in (1, 2, 3)
    ]
    await add_message(sql, "org_other", "sent", provider="'twilio'", provider_message_id="'SM1'")
    first = await cooee("messages", "--organisation", organisation, "--limit", "2")
    assert (first.code, first.out.splitlines()[-1]) == (0, f"for older ones add --before {ids[1]}")
    assert PHONE not in first.out
    whole = await cooee("messages", "--organisation", organisation, "--limit", "3", "--json")
    assert (len(whole.document["messages"]), whole.document["next"]) == (3, None)
    assert "+614…06" in first.out
    rest = await cooee("messages", "--organisation", organisation, "--before", str(ids[1]), "--json")
    assert ([one["id"] for one in rest.document["messages"]], rest.document["next"]) == ([ids[2]], None)
    (found,) = (await cooee("messages", "--provider-id", "sm1", "--show-phones", "--json")).document["messages"]
    assert (found["organisation_id"], found["phone"]) == ("org_other", PHONE)
    assert (await cooee("messages", "--provider-id", "SM2")).out == "no messages\n"
    assert (await cooee("messages")).code == 2
    for limit in ("0", "1000001"):
        refused = await cooee("messages", "--provider-id", "SM2", "--limit", limit)
        assert (refused.code, "--limit" in refused.err) == (2, True)


async def test_organisation_is_shown_with_what_it_has(cooee: Cooee, sql: Sql) -> None:
    assert (await cooee("organisations", "show", "org_mine")).code == 4
    await sql(
        "contacts",
        "INSERT INTO organisations (organisation_id, name, slug) VALUES ('org_mine', 'Fern', 'fern'),"
        " ('org_other', 'Reed', 'reed')",
    )
    for organisation, limit in (("org_mine", "100"), ("org_other", "7777")):
        await sql(
            "delivery",
            f"INSERT INTO configs (organisation_id, name, value) VALUES ('{organisation}', 'sms_limit', '{limit}')",
        )
    await sql("delivery", "INSERT INTO limit_usage VALUES ('org_mine', date '2026-11-01', 'sms', 41)")
    await cooee("pause", "organisation", "org_mine", reason="runaway loop")
    shown = await cooee("organisations", "show", "org_mine")
    lines = shown.out.splitlines()
    assert (shown.code, lines[0]) == (0, "org_mine: Fern, active")
    assert lines[1].startswith("paused since 20")
    assert lines[1].endswith(": runaway loop")
    assert lines[2] == "monthly limits: sms 100; time zone Australia/Adelaide"
    assert lines[3] == "0 phones opted out by a reply or at a provider"
    assert "2026-11  sms       41" in lines
    assert "7777" not in shown.out
    assert (await cooee("organisations", "show", "org_mine", "--json")).document["limits"] == {"sms": 100}
