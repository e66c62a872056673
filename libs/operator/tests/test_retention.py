"""`cooee retention` lists each rule with its setting, the rows that are due and the last run."""

from common.database import Database
from common.retention import apply_rule
from delivery.retention import RULES

from .conftest import Cooee, Sql

WEBHOOK_EVENT = """
    INSERT INTO webhook_events (provider, fingerprint, kind, body, request_id, received_at)
    VALUES ('x', '', 'receipt', '{}', '', now() - interval '20 days')
"""


async def test_rules_are_listed_with_what_is_due_and_the_last_run(
    cooee: Cooee, sql: Sql, databases: dict[str, Database]
) -> None:
    await sql("delivery", WEBHOOK_EVENT)
    listed = (await cooee("retention", "--json")).document["rules"]
    assert {one["service"] for one in listed} == {"contacts", "scheduling", "delivery"}
    assert all(one["rows_due"] == 0 and one["last_run"] is None for one in listed)
    settings = {one["setting"] for one in listed}
    assert settings >= {"RETENTION_MESSAGE_TEXT_DAYS", "RETENTION_IMPORT_DAYS", "RETENTION_WEBHOOK_EVENT_DAYS", None}
    [rule] = [one for one in listed if one["rule"] == "webhook events"]
    assert (rule["days"], rule["action"], rule["oldest"] is not None) == (30, "deletes", True)

    [events] = [rule for rule in RULES if rule.name == "webhook events"]
    async with databases["delivery"].all_tenants() as session:
        await apply_rule(session, "delivery", events, 21)
    await sql("delivery", "UPDATE webhook_events SET received_at = now() - interval '22 days'")
    [rule] = [one for one in (await cooee("retention", "--json")).document["rules"] if one["rule"] == "webhook events"]
    assert (rule["days"], rule["rows_due"], rule["rows_handled"]) == (21, 1, 0)
    assert rule["last_run"] is not None
    shown = await cooee("retention")
    assert (shown.code, "webhook events" in shown.out, "RETENTION_WEBHOOK_EVENT_DAYS" in shown.out) == (0, True, True)
