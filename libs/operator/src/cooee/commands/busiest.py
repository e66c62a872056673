"""The command `organisations busiest`: which organisations sent most in the last minutes."""

import argparse
from datetime import UTC, datetime, timedelta

from cooee.arguments import read_minutes
from cooee.command import Command, Report
from cooee.output import show_time, table
from cooee.stack import Stack

_SHOWN = 20
_MOST = 1_000_000
_LONGEST_MINUTES = 1440
# It steps from one organisation to the next by messages_newest, and reads the counted entries of this index alone.
_BUSIEST = """
    WITH RECURSIVE organisations AS (
        (SELECT organisation_id FROM messages ORDER BY organisation_id LIMIT 1)
        UNION ALL
        SELECT (SELECT m.organisation_id FROM messages m WHERE m.organisation_id > o.organisation_id
                ORDER BY m.organisation_id LIMIT 1)
        FROM organisations o WHERE o.organisation_id IS NOT NULL
    )
    SELECT o.organisation_id, counted.number FROM organisations o CROSS JOIN LATERAL (
        SELECT count(*) AS number FROM (
            SELECT FROM messages m WHERE m.organisation_id = o.organisation_id AND m.created_at >= :since LIMIT :most
        ) AS newest
    ) AS counted
    WHERE counted.number > 0 ORDER BY counted.number DESC, o.organisation_id LIMIT :shown
"""


async def list_busiest(stack: Stack, options: argparse.Namespace) -> Report:
    """List the 20 organisations with the most messages that reached delivery in the last `--minutes`.

    Messages of later schedules and of batches count when they are dispatched. It counts up to 1,000,000 of each.
    """
    since = datetime.now(UTC) - timedelta(minutes=options.minutes)
    rows = await stack.rows("delivery", _BUSIEST, since=since, most=_MOST, shown=_SHOWN)
    cells = [(row.organisation_id, row.number) for row in rows]
    lines = table(("organisation", "messages"), cells) if cells else [f"no messages since {show_time(since)}"]
    found = [{"organisation_id": row.organisation_id, "messages": row.number} for row in rows]
    return Report({"since": since, "organisations": found}, lines)


def _read_minutes(value: str) -> float:
    minutes = read_minutes(value)
    if not 0 < minutes <= _LONGEST_MINUTES:
        raise argparse.ArgumentTypeError(f"{value!r} is not a number of minutes above 0 and up to {_LONGEST_MINUTES}")
    return minutes


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=_read_minutes, default=60.0, help="count the messages of this time (60)")


COMMAND = Command("busiest", "list those that sent most in the last minutes", list_busiest, _add_arguments)
