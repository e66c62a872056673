"""The command `stuck`: what makes no progress, and why. It counts by organisation, without phones and texts."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row

from cooee.arguments import read_minutes
from cooee.command import Command, Report
from cooee.commands.waiting import Pauses, read_pauses, show_pause
from cooee.errors import ExitCode
from cooee.output import show_age, table
from cooee.stack import STORES, Stack
from delivery.models import PauseRow
from delivery.providers import provider_classes


@dataclass(frozen=True)
class Check:
    """One kind of things that may be stuck. Its statement returns organisation_id, detail, number and oldest.

    Where rows may wait because of a pause, it also returns `may_wait` and `format`.
    """

    service: str
    subject: str
    reason: str
    statement: str
    age: str = "oldest"  # what the column of `oldest` shows


@dataclass(frozen=True)
class Found:
    """What a check found, with a detail for each row."""

    check: Check
    reason: str
    rows: Sequence[tuple[Row[Any], str]]

    def lines(self) -> list[str]:
        """Return the finding for a person, below an empty line."""
        number = sum(row.number for row, _ in self.rows)
        cells = [(row.organisation_id, row.number, show_age(row.oldest), detail) for row, detail in self.rows]
        lines = table(("organisation", "count", self.check.age, "detail"), cells)
        title = f"{self.check.service}: {number:,} {self.check.subject} ({self.reason})"
        return ["", title, *(f"  {line}" for line in lines)]

    def describe(self) -> dict[str, Any]:
        """Return the finding for --json."""
        groups = [
            {"organisation_id": row.organisation_id, "detail": detail, "number": row.number, "oldest": row.oldest}
            for row, detail in self.rows
        ]
        return {
            "service": self.check.service,
            "subject": self.check.subject,
            "reason": self.reason,
            "number": sum(row.number for row, _ in self.rows),
            "groups": groups,
        }


_WAITING = "they are not stuck: they wait because of a pause, see cooee pauses"
_CHECKS = (
    Check(
        "scheduling",
        "schedules in processing",
        "no outcome has arrived: is a message waiting at delivery, or an event in an outbox?"
        " cooee history --schedule ID shows it",
        """
        SELECT organisation_id, 'asked ' || sweep_count || ' times' AS detail, count(*) AS number,
               min(updated_at) AS oldest, true AS may_wait, format
        FROM schedules WHERE status = 'processing' AND kind <> 'batch' AND updated_at < :since
        GROUP BY organisation_id, sweep_count, format ORDER BY oldest
        """,
        age="last change",
    ),
    Check(
        "scheduling",
        "overdue schedules",
        "they are not dispatched: does scheduling's worker run, and are other batches in processing?",
        """
        SELECT s.organisation_id, s.kind AS detail, count(*) AS number, min(s.scheduled_time) AS oldest,
               s.kind = 'batch_message' AS may_wait, s.format
        FROM schedules s
        WHERE s.status = 'pending' AND s.scheduled_time < :since
          AND NOT EXISTS (SELECT FROM schedules b WHERE b.id = s.batch_id AND b.organisation_id = s.organisation_id
                          AND b.status = 'cancelled')
        GROUP BY s.organisation_id, s.kind, s.format ORDER BY oldest
        """,
    ),
    Check(
        "scheduling",
        "batches without a finished fan-out",
        "their members are read from contacts page by page: does scheduling's worker run, and is contacts available?"
        " see cooee health",
        """
        SELECT organisation_id, 'batch ' || id AS detail, 1 AS number, created_at AS oldest FROM schedules
        WHERE kind = 'batch' AND fanned_out_at IS NULL AND status IN ('pending', 'processing')
          AND created_at < :since
        ORDER BY 4
        """,
    ),
    Check(
        "delivery",
        "queued messages",
        "no provider worker has claimed them: does delivery's worker run, and is a provider available (see cooee"
        " health)? Is its rate too low?",
        """
        SELECT organisation_id, format || ' ' || lane AS detail, count(*) AS number, min(created_at) AS oldest,
               true AS may_wait, format
        FROM messages WHERE status = 'queued' AND created_at < :since GROUP BY organisation_id, format, lane
        ORDER BY oldest
        """,
    ),
    Check(
        "delivery",
        "messages that wait for another attempt",
        "the category is the provider's last answer; cooee history ID shows its own text",
        """
        SELECT organisation_id, coalesce(provider, '-') || ' ' || coalesce(failure_category, '-') || ', attempt '
               || attempts AS detail, count(*) AS number, min(created_at) AS oldest
        FROM messages WHERE status = 'retry_wait' AND created_at < :since GROUP BY 1, 2 ORDER BY 4
        """,
    ),
    Check(
        "delivery",
        "messages with an unknown outcome",
        "a delivery receipt, a look-up, a resend or the end of the submission decides whether they were sent",
        """
        SELECT m.organisation_id, s.provider AS detail, count(*) AS number, min(s.tried_at) AS oldest
        FROM submissions s CROSS JOIN unnest(s.message_ids) AS of (id) JOIN messages m ON m.id = of.id
        WHERE m.status = 'unknown' AND s.tried_at < :since GROUP BY 1, 2 ORDER BY 4
        """,
        age="last try",
    ),
    Check(
        "delivery",
        "sent messages without a delivery receipt for a day",
        "are the provider's webhooks set up, and is PUBLIC_URL reachable? Sent in the last week",
        """
        SELECT organisation_id, provider AS detail, count(*) AS number, min(sent_time) AS oldest FROM messages
        WHERE status = 'sent' AND provider = ANY(CAST(:with_receipts AS text[]))
          AND sent_time BETWEEN now() - interval '7 days' AND now() - interval '1 day'
        GROUP BY 1, 2 ORDER BY 4
        """,
    ),
    Check(
        "delivery",
        "submissions without a result",
        "when they are given up, their messages fail with outcome_unknown",
        """
        SELECT '(all)' AS organisation_id, provider || ' ' || state || ', ' || sum(cardinality(message_ids))
               || ' messages, at most ' || max(tries) || ' tries, the last is given up '
               || to_char(max(give_up_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24\\:MI"Z"') AS detail,
               count(*) AS number, min(tried_at) AS oldest
        FROM submissions WHERE tried_at < :since GROUP BY provider, state ORDER BY 4
        """,
    ),
    Check(
        "delivery",
        "reservations with an overdue check",
        "scheduling is asked whether they are still needed: is scheduling available?",
        """
        SELECT organisation_id, format || ', ' || sum(parts) || ' parts' AS detail, count(*) AS number,
               min(check_at) AS oldest
        FROM reservations WHERE check_at < :since GROUP BY organisation_id, format ORDER BY 4
        """,
        age="due",
    ),
    Check(
        "delivery",
        "webhook events that match no message",
        "they are stored and checked again; events of other systems on the same account never match",
        """
        SELECT '(all)' AS organisation_id, provider || ' ' || kind || ', checked ' || max(checks) || ' times'
               AS detail, count(*) AS number, min(received_at) AS oldest
        FROM webhook_events WHERE due_at IS NOT NULL AND received_at < :since GROUP BY provider, kind ORDER BY 4
        """,
    ),
)
_OUTBOX = """
    SELECT '(all)' AS organisation_id, topic AS detail, count(*) AS number, min(created_at) AS oldest FROM outbox
    WHERE created_at < now() - interval '30 seconds' GROUP BY topic ORDER BY 4
"""
_DEAD_LETTERS = """
    SELECT '(all)' AS organisation_id, topic AS detail, count(*) AS number, min(created_at) AS oldest FROM dead_letters
    WHERE NOT acknowledged GROUP BY topic ORDER BY 4
"""
_CHECKS_OF_EVERY_SERVICE = tuple(
    Check(service, subject, reason, statement)
    for service in STORES
    for subject, reason, statement in (
        ("events in the outbox", "the relay cannot reach Kafka, or the worker does not run", _OUTBOX),
        ("dead letters", "see cooee dead-letters list", _DEAD_LETTERS),
    )
)


async def stuck(stack: Stack, options: argparse.Namespace) -> Report:
    """List what has made no progress for `--minutes`, by organisation. The exit code is 1 when there is something.

    What waits because of a pause is listed after it, and does not count.
    """
    values = {
        "since": datetime.now(UTC) - timedelta(minutes=options.minutes),
        "with_receipts": [provider.name for provider in provider_classes() if provider.sends_receipts],
    }
    pauses: Pauses | None = None
    found: list[Found] = []
    waiting: list[Found] = []
    for check in (*_CHECKS, *_CHECKS_OF_EVERY_SERVICE):
        parameters = {name: value for name, value in values.items() if f":{name}" in check.statement}
        rows = await stack.rows(check.service, check.statement, **parameters)
        if pauses is None and any(getattr(row, "may_wait", False) for row in rows):
            pauses = await read_pauses(stack)
        causes = [(row, _find_pause(pauses, row)) for row in rows]
        if still := [(row, row.detail) for row, pause in causes if pause is None]:
            found.append(Found(check, check.reason, still))
        if paused := [(row, show_pause(pause)) for row, pause in causes if pause is not None]:
            waiting.append(Found(check, _WAITING, paused))
    lines = ["" if found else "nothing is stuck"]
    lines += [line for one in (*found, *waiting) for line in one.lines()]
    document = {
        "minutes": options.minutes,
        "stuck": [one.describe() for one in found],
        "waiting": [one.describe() for one in waiting],
    }
    return Report(document, lines[2:] if found else lines, ExitCode.FOUND if found else ExitCode.OK)


def _find_pause(pauses: Pauses | None, row: Row[Any]) -> PauseRow | None:
    if pauses is None or not getattr(row, "may_wait", False):
        return None
    return pauses.find(row.organisation_id, row.format)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--minutes", type=read_minutes, default=5.0, help="list what made no progress for this time (5)"
    )


COMMAND = Command("stuck", "list what makes no progress, and why", stuck, _add_arguments)
