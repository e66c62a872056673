"""The command `stuck`: what makes no progress, and why. It counts by organisation, without phones and texts."""

import argparse
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cooee.arguments import read_minutes
from cooee.command import Command, Report
from cooee.errors import ExitCode
from cooee.output import show_age, table
from cooee.stack import STORES, Stack
from delivery.providers import provider_classes


@dataclass(frozen=True)
class Check:
    """One kind of things that may be stuck. Its statement returns organisation_id, detail, number and oldest."""

    service: str
    subject: str
    reason: str
    statement: str


_CHECKS = (
    Check(
        "scheduling",
        "schedules in processing",
        "delivery has published no outcome; scheduling asks five times, in growing intervals",
        """
        SELECT organisation_id, 'asked ' || sweep_count || ' times' AS detail, count(*) AS number,
               min(updated_at) AS oldest
        FROM schedules WHERE status = 'processing' AND kind <> 'batch' AND updated_at < :since
        GROUP BY 1, 2 ORDER BY 4
        """,
    ),
    Check(
        "scheduling",
        "overdue schedules",
        "they are not dispatched: does scheduling's worker run, and are other batches in processing?",
        """
        SELECT s.organisation_id, s.kind AS detail, count(*) AS number, min(s.scheduled_time) AS oldest FROM schedules s
        WHERE s.status = 'pending' AND s.scheduled_time < :since
          AND NOT EXISTS (SELECT FROM schedules b WHERE b.id = s.batch_id AND b.organisation_id = s.organisation_id
                          AND b.status = 'cancelled')
        GROUP BY 1, 2 ORDER BY 4
        """,
    ),
    Check(
        "scheduling",
        "batches without a finished fan-out",
        "their members are read from contacts page by page: is contacts available?",
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
        "no provider worker has claimed them: does delivery's worker run, is a circuit open, is the rate too low?",
        """
        SELECT organisation_id, format || ' ' || lane AS detail, count(*) AS number, min(created_at) AS oldest
        FROM messages WHERE status = 'queued' AND created_at < :since GROUP BY 1, 2 ORDER BY 4
        """,
    ),
    Check(
        "delivery",
        "messages that wait for another attempt",
        "the category is the provider's last answer",
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
        (
            "dead letters",
            "see cooee dead-letters",
            _DEAD_LETTERS,
        ),
    )
)


async def stuck(stack: Stack, options: argparse.Namespace) -> Report:
    """List what has made no progress for `--minutes`, by organisation. The exit code is 1 when there is something."""
    values = {
        "since": datetime.now(UTC) - timedelta(minutes=options.minutes),
        "with_receipts": [provider.name for provider in provider_classes() if provider.sends_receipts],
    }
    found: list[dict[str, Any]] = []
    lines: list[str] = []
    for check in (*_CHECKS, *_CHECKS_OF_EVERY_SERVICE):
        parameters = {name: value for name, value in values.items() if f":{name}" in check.statement}
        rows = await stack.rows(check.service, check.statement, **parameters)
        if not rows:
            continue
        number = sum(row.number for row in rows)
        lines += ["", f"{check.service}: {number:,} {check.subject} ({check.reason})"]
        cells = [(row.organisation_id, row.number, show_age(row.oldest), row.detail) for row in rows]
        lines += [f"  {line}" for line in table(("organisation", "count", "oldest", "detail"), cells)]
        one = {"service": check.service, "subject": check.subject, "reason": check.reason, "number": number}
        found.append(one | {"groups": [row._asdict() for row in rows]})
    code = ExitCode.FOUND if found else ExitCode.OK
    return Report({"minutes": options.minutes, "stuck": found}, lines[1:] or ["nothing is stuck"], code)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--minutes", type=read_minutes, default=5.0, help="list what made no progress for this time (5)"
    )


COMMAND = Command("stuck", "list what makes no progress, and why", stuck, _add_arguments)
