"""Check in which order delivery claimed messages: single ones before campaigns, and in each lane the oldest first."""

from collections.abc import Sequence

from tools.backlogs.report import Section
from tools.backlogs.world import World

# The audit of the chaos run records when each submission began. A message is inserted some time before its transaction
# commits, so a campaign message may be claimed within a second after it.
_BEGAN = """
    WITH first_tries AS (
        SELECT message_id, min(began) AS began
        FROM chaos.tries CROSS JOIN LATERAL unnest(message_ids) AS message_id GROUP BY message_id
    ), claimed AS (
        SELECT m.id, m.organisation_id, m.lane, m.created_at, t.began
        FROM delivery.messages m JOIN first_tries t ON t.message_id = m.id
        WHERE m.organisation_id = ANY($1::text[])
    )
"""
_OVERTAKEN = f"""
    {_BEGAN}
    SELECT count(*) FROM (
        SELECT lane, created_at, began, max(began) FILTER (WHERE lane = 'bulk') OVER (
            ORDER BY began RANGE BETWEEN UNBOUNDED PRECEDING AND interval '1 microsecond' PRECEDING) AS last_bulk
        FROM claimed) AS ordered
    WHERE lane = 'single' AND last_bulk > created_at + interval '1 second'
"""  # noqa: S608  # constants of this file
_NEWER_FIRST = f"""
    {_BEGAN}
    SELECT count(*) FROM (
        SELECT began, max(began) OVER (
            PARTITION BY organisation_id, lane ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
        FROM claimed) AS ordered
    WHERE began < before
"""  # noqa: S608  # constants of this file


async def check_order(world: World, section: Section, organisations: Sequence[str]) -> None:
    """Count messages that were claimed in the wrong order. Each one violates a promise."""
    overtaken = (await world.fetch(_OVERTAKEN, list(organisations)))[0][0]
    newer = (await world.fetch(_NEWER_FIRST, list(organisations)))[0][0]
    section.add("single messages that a campaign overtook", overtaken)
    section.add("messages that a newer one of their lane overtook", newer)
    section.require(overtaken == 0, f"campaigns overtook {overtaken} single messages")
    section.require(newer == 0, f"{newer} messages were overtaken by newer ones of their organisation and lane")
