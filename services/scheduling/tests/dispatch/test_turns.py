"""Organisations and their batches take turns when messages are claimed."""

from scheduling.dispatch.repository import claim_messages_all_tenants
from services.scheduling.tests.stage import Stage

BATCHES = """
    INSERT INTO schedules (organisation_id, kind, status, group_id, text, scheduled_time, next_due_at, format,
                           message_count, fanned_out_at)
    SELECT 'org_' || g % 10, 'batch', 'processing', 1, 'x', now() - g * interval '1 hour',
           now() - g * interval '1 hour', 'sms', 200, now()
    FROM generate_series(1, 50) g
"""
MESSAGES = """
    INSERT INTO schedules (organisation_id, kind, status, batch_id, batch_position, contact_id, phone)
    SELECT b.organisation_id, 'batch_message', 'pending', b.id, g, g, '+61491000999'
    FROM schedules b, generate_series(1, 200) g WHERE b.kind = 'batch'
"""


async def test_a_small_organisation_gets_its_messages_and_no_large_one_more_than_its_share(stage: Stage) -> None:
    await stage.rows(BATCHES)
    await stage.rows(MESSAGES)
    await stage.rows(
        "DELETE FROM schedules WHERE kind = 'batch_message' AND organisation_id = 'org_1' AND contact_id > 5"
    )
    async with stage.database.all_tenants() as session:
        ids = await claim_messages_all_tenants(session, 500, 5000)
    found = await stage.rows(
        "SELECT organisation_id, count(*) AS n FROM schedules WHERE id = ANY(:ids) GROUP BY 1", ids=ids
    )
    claimed = {row.organisation_id: row.n for row in found}
    assert len(claimed) == 10
    assert claimed["org_1"] == 25
    assert max(claimed.values()) == 50
