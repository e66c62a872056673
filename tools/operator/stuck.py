"""What does not go on, and why: counts by organisation, no phones and no texts."""

import argparse
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tools.operator.letters import SERVICES
from tools.operator.stack import Stack, show_age


@dataclass(frozen=True)
class Look:
    """Where something may be stuck. The statement gives `number`, `oldest` and what it is grouped by."""

    service: str
    what: str
    why: str
    statement: str


_LOOKS = (
    Look(
        "scheduling",
        "schedules in processing",
        "delivery has not told their outcome; it is asked ever more seldom, five times, then an operator is needed",
        """
        SELECT organisation_id, 'asked ' || swept || ' times' AS detail, count(*) AS number, min(updated_at) AS oldest
        FROM schedules WHERE status = 'processing' AND kind <> 'parent' AND updated_at < :since
        GROUP BY 1, 2 ORDER BY 4
        """,
    ),
    Look(
        "scheduling",
        "schedules that are overdue",
        "dispatch has not taken them: is scheduling's worker running, are other batches of theirs in processing?",
        """
        SELECT s.organisation_id, s.kind AS detail, count(*) AS number, min(s.scheduled_time) AS oldest FROM schedules s
        WHERE s.status = 'pending' AND s.scheduled_time < :since
          AND NOT EXISTS (SELECT FROM schedules p WHERE p.id = s.parent_id AND p.organisation_id = s.organisation_id
                          AND p.status = 'cancelled')
        GROUP BY 1, 2 ORDER BY 4
        """,
    ),
    Look(
        "scheduling",
        "batches that are not expanded",
        "their members are read from contacts page by page: does contacts answer?",
        """
        SELECT organisation_id, 'batch ' || id AS detail, 1 AS number, created_at AS oldest FROM schedules
        WHERE kind = 'parent' AND expanded_at IS NULL AND status IN ('pending', 'processing')
          AND created_at < :since
        ORDER BY 4
        """,
    ),
    Look(
        "delivery",
        "messages queued",
        "no provider has taken them: is delivery's worker running, is its rate or its breaker holding them?",
        """
        SELECT organisation_id, format || ' ' || lane AS detail, count(*) AS number, min(created_at) AS oldest
        FROM messages WHERE status = 'queued' AND created_at < :since GROUP BY 1, 2 ORDER BY 4
        """,
    ),
    Look(
        "delivery",
        "messages that wait for another attempt",
        "the reason is what the provider said last",
        """
        SELECT organisation_id, coalesce(provider, '-') || ' ' || coalesce(category, '-') || ', attempt '
               || attempts AS detail, count(*) AS number, min(created_at) AS oldest
        FROM messages WHERE status = 'retry_wait' AND created_at < :since GROUP BY 1, 2 ORDER BY 4
        """,
    ),
    Look(
        "delivery",
        "messages of unknown outcome",
        "nobody knows whether the provider took them: a receipt, a look-up, a repetition or the end of the call says",
        """
        SELECT m.organisation_id, c.provider AS detail, count(*) AS number, min(c.requested_at) AS oldest
        FROM calls c CROSS JOIN unnest(c.message_ids) AS of (id) JOIN messages m ON m.id = of.id
        WHERE m.status = 'unknown' AND c.requested_at < :since GROUP BY 1, 2 ORDER BY 4
        """,
    ),
    Look(
        "delivery",
        "calls of unknown outcome",
        "past their end their messages fail as outcome_unknown",
        """
        SELECT '(all)' AS organisation_id, provider || ' ' || state || ', ' || sum(cardinality(message_ids))
               || ' messages, at most ' || max(requests) || ' requests, the last ends '
               || to_char(max(ends_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24\\:MI"Z"') AS detail, count(*) AS number,
               min(requested_at) AS oldest
        FROM calls WHERE requested_at < :since GROUP BY provider, state ORDER BY 4
        """,
    ),
    Look(
        "delivery",
        "holds that are not looked after",
        "scheduling is asked about each now and then: does it answer?",
        """
        SELECT organisation_id, format || ', ' || sum(units) || ' units' AS detail, count(*) AS number,
               min(check_at) AS oldest
        FROM holds WHERE check_at < :since GROUP BY organisation_id, format ORDER BY 4
        """,
    ),
    Look(
        "delivery",
        "notices of providers that match no message",
        "they are kept and matched again; those of other systems on the same account never match",
        """
        SELECT '(all)' AS organisation_id, provider || ' ' || kind || ', looked at ' || max(looks) || ' times'
               AS detail, count(*) AS number, min(received_at) AS oldest
        FROM notices WHERE due_at IS NOT NULL AND received_at < :since GROUP BY provider, kind ORDER BY 4
        """,
    ),
)
_OUTBOX = """
    SELECT '(all)' AS organisation_id, topic AS detail, count(*) AS number, min(created_at) AS oldest FROM outbox
    WHERE created_at < now() - interval '30 seconds' GROUP BY topic ORDER BY 4
"""
_LETTERS = """
    SELECT '(all)' AS organisation_id,
           topic || CASE WHEN count(*) > 50 THEN ', enough to stop its consumer' ELSE '' END AS detail,
           count(*) AS number, min(created_at) AS oldest FROM dead_letters
    WHERE NOT passed GROUP BY topic ORDER BY 4
"""
_EVERYWHERE = tuple(
    Look(service, what, why, statement)
    for service in SERVICES
    for what, why, statement in (
        ("events that are not published", "the relay cannot reach Kafka, or the worker is not running", _OUTBOX),
        ("dead letters", "records that could not be read: dead-letters show, replay; resume", _LETTERS),
    )
)


async def stuck(stack: Stack, options: argparse.Namespace) -> int:
    """Everything that has not gone on for `--minutes`. 1 when there is something."""
    found, since = False, datetime.now(UTC) - timedelta(minutes=options.minutes)
    for look in (*_LOOKS, *_EVERYWHERE):
        given = {"since": since} if ":since" in look.statement else {}
        if rows := await stack.rows(look.service, look.statement, **given):
            found = True
            print(f"{look.service}: {sum(row.number for row in rows):,} {look.what} ({look.why})")
            for row in rows:
                print(f"  {row.organisation_id:<32} {row.number:>7,}  oldest {show_age(row.oldest):<10} {row.detail}")
    if not found:
        print("nothing is stuck")
    return 1 if found else 0
