"""Metrics of delivery: its queues, submissions, messages, receipts and providers. docs/operators.md lists them."""
# ruff: noqa: S608 (the parts of the statements are constants)

from collections import Counter as Counts
from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

from common.metrics import REGISTRY
from common.readings import MAX_ROWS, Reading
from delivery.models import ORGANISATION_PAUSED, Lane, OutcomeRow, PauseKind

_REQUEST_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LATENESS_SECONDS = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0)
_DELAY_SECONDS = (1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0, 86_400.0)
CIRCUIT_STATES = ("closed", "half_open", "open")

QUEUE_OLDEST = Gauge(
    "cooee_queue_oldest_seconds",
    "Age of the oldest queued message; paused organisations do not count; 0 for an empty lane.",
    ["lane"],
    registry=REGISTRY,
)
QUEUE_MESSAGES = Gauge("cooee_queue_messages", "Queued messages, at most 10001.", ["lane"], registry=REGISTRY)
UNKNOWN = Gauge(
    "cooee_submissions_unknown",
    "Submissions whose outcome is not known, at most 10001 in all.",
    ["provider"],
    registry=REGISTRY,
)
UNKNOWN_OLDEST = Gauge(
    "cooee_submissions_unknown_oldest_seconds",
    "Time since the last try of the submission that has been unknown for longest.",
    ["provider"],
    registry=REGISTRY,
)
WEBHOOK_EVENTS_OLDEST = Gauge(
    "cooee_webhook_events_oldest_seconds",
    "Time for which the oldest webhook event has been due.",
    ["service"],
    registry=REGISTRY,
)
LATENESS = Histogram(
    "cooee_message_lateness_seconds",
    "Time from a message's scheduled time until a provider accepted it.",
    ["lane"],
    buckets=_LATENESS_SECONDS,
    registry=REGISTRY,
)
MESSAGES = Counter(
    "cooee_messages_total",
    "New statuses of messages: sent, delivered, failed, or retry_wait.",
    ["provider", "outcome", "failure_category"],
    registry=REGISTRY,
)
SUBMISSIONS = Counter(
    "cooee_submissions_total",
    "Requests to providers by their result: answered, or the failure category of the error.",
    ["provider", "result"],
    registry=REGISTRY,
)
SUBMISSION_SECONDS = Histogram(
    "cooee_submission_seconds",
    "Time of a request to a provider.",
    ["provider"],
    buckets=_REQUEST_SECONDS,
    registry=REGISTRY,
)
IN_FLIGHT = Gauge(
    "cooee_submissions_in_flight", "Requests to a provider that wait for its answer.", ["provider"], registry=REGISTRY
)
ALLOWED = Gauge(
    "cooee_submissions_allowed",
    "Requests to a provider that may be in flight at once. Throttling halves it.",
    ["provider"],
    registry=REGISTRY,
)
CIRCUIT = Gauge(
    "cooee_circuit_state",
    "1 for the state of a provider's circuit, 0 for the others.",
    ["provider", "state"],
    registry=REGISTRY,
)
TOKENS = Gauge(
    "cooee_token_bucket_parts",
    "Message parts that a provider's rate limit allows now. Negative: they were sent in advance.",
    ["provider"],
    registry=REGISTRY,
)
RECEIPT_DELAY = Histogram(
    "cooee_receipt_delay_seconds",
    "Time from a provider's acceptance of a message until a receipt for it arrived.",
    ["provider"],
    buckets=_DELAY_SECONDS,
    registry=REGISTRY,
)
PAUSED = Gauge("cooee_pauses", "Organisations or providers that an operator paused.", ["kind"], registry=REGISTRY)
LIMIT_DRIFT = Gauge(
    "cooee_limit_drift",
    "Months of organisations whose recorded usage differs from their messages and reservations.",
    ["format"],
    registry=REGISTRY,
)

_LANES = ", ".join(f"('{name}', '{lane}')" for name in ("sms", "mms") for lane in Lane)
_MAX_ORGANISATIONS = 1000
# The statement steps over the index messages_queued from organisation to organisation, as the claim does, and looks at
# the first message of each. So it costs nothing more when one organisation has a million queued messages. Messages of
# paused organisations are meant to wait, so they are left out.
_QUEUE_OLDEST = f"""
    WITH RECURSIVE lanes (format, lane) AS (VALUES {_LANES}), steps AS (
        SELECT l.format, l.lane, (SELECT m.organisation_id FROM messages m
                                  WHERE m.status = 'queued' AND m.format = l.format AND m.lane = l.lane
                                  ORDER BY m.organisation_id LIMIT 1) AS organisation_id
        FROM lanes l
        UNION ALL
        SELECT s.format, s.lane, (SELECT m.organisation_id FROM messages m
                                  WHERE m.status = 'queued' AND m.format = s.format AND m.lane = s.lane
                                    AND m.organisation_id > s.organisation_id
                                  ORDER BY m.organisation_id LIMIT 1)
        FROM steps s WHERE s.organisation_id IS NOT NULL
    ), heads AS (
        SELECT s.lane, (SELECT m.changed_at FROM messages m
                        WHERE m.status = 'queued' AND m.format = s.format AND m.lane = s.lane
                          AND m.organisation_id = s.organisation_id
                        ORDER BY m.id LIMIT 1) AS queued_at
        FROM (SELECT * FROM steps
              WHERE organisation_id IS NOT NULL AND NOT {ORGANISATION_PAUSED.format(organisation="organisation_id")}
              LIMIT {_MAX_ORGANISATIONS}) s
    )
    SELECT ARRAY[l.lane] AS labels,
           coalesce(max(extract(epoch FROM clock_timestamp() - h.queued_at)), 0) AS value
    FROM (SELECT DISTINCT lane FROM lanes) l LEFT JOIN heads h USING (lane) GROUP BY l.lane
"""
# The order is that of the index, so that PostgreSQL cannot read the table instead.
_QUEUE_MESSAGES = f"""
    SELECT ARRAY[l.lane] AS labels, count(q.lane) AS value
    FROM (VALUES {", ".join(f"('{lane}')" for lane in Lane)}) l (lane)
    LEFT JOIN (SELECT lane FROM messages WHERE status = 'queued'
               ORDER BY format, lane, organisation_id, id LIMIT {MAX_ROWS}) q USING (lane)
    GROUP BY l.lane
"""
_UNKNOWN = f"""
    SELECT ARRAY[provider] AS labels, {{value}} AS value
    FROM (SELECT provider, tried_at FROM submissions WHERE state = 'unknown'
          ORDER BY provider, tried_at LIMIT {MAX_ROWS}) u
    GROUP BY provider
"""
_WEBHOOK_EVENTS_OLDEST = """
    SELECT ARRAY['delivery'] AS labels,
           greatest(0, coalesce((SELECT extract(epoch FROM clock_timestamp() - due_at) FROM webhook_events
                                 WHERE due_at IS NOT NULL ORDER BY due_at, id LIMIT 1), 0)) AS value
"""
_PAUSES = f"""
    SELECT ARRAY[k.kind] AS labels,
           (SELECT count(*) FROM (SELECT FROM pauses p WHERE p.kind = k.kind LIMIT {MAX_ROWS}) AS paused) AS value
    FROM (VALUES {", ".join(f"('{kind}')" for kind in PauseKind)}) k (kind)
"""
READINGS = (
    Reading(PAUSED, _PAUSES),
    Reading(QUEUE_OLDEST, _QUEUE_OLDEST),
    Reading(QUEUE_MESSAGES, _QUEUE_MESSAGES),
    Reading(UNKNOWN, _UNKNOWN.format(value="count(*)")),
    Reading(UNKNOWN_OLDEST, _UNKNOWN.format(value="extract(epoch FROM clock_timestamp() - min(tried_at))")),
    Reading(WEBHOOK_EVENTS_OLDEST, _WEBHOOK_EVENTS_OLDEST),
)


def count_outcomes(rows: Iterable[OutcomeRow]) -> None:
    """Count the new statuses of messages. Call it after the commit."""
    outcomes = Counts((row.provider or "-", row.status, row.failure_category or "-") for row in rows)
    for (provider, status, category), number in outcomes.items():
        MESSAGES.labels(provider, status.value, category).inc(number)


def count_acceptances(rows: Iterable[OutcomeRow]) -> None:
    """Add the lateness of messages that a provider accepted. Call it after the commit."""
    lanes = {lane: LATENESS.labels(lane.value) for lane in Lane}
    for row in rows:
        if row.sent_time is not None:
            lanes[row.lane].observe(max(0.0, (row.sent_time - row.scheduled_time).total_seconds()))


def count_receipts(delays: Iterable[tuple[str, float]]) -> None:
    """Add the delays of delivery receipts: pairs of a provider and seconds. Call it after the commit."""
    for provider, seconds in delays:
        RECEIPT_DELAY.labels(provider).observe(max(0.0, seconds))


def set_limit_drift(formats: Iterable[str]) -> None:
    """Set the number of months whose usage differs. `formats` has the format of each."""
    counts = Counts(formats)
    for name in ("sms", "mms"):
        LIMIT_DRIFT.labels(name).set(counts[name])
