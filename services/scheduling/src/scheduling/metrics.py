"""Metrics of scheduling: what is due and not dispatched, and what is not fanned out. docs/operators.md lists them."""
# ruff: noqa: S608 (the parts of the statements are constants)

from prometheus_client import Gauge

from common.metrics import REGISTRY
from common.readings import MAX_ROWS, Reading
from scheduling.models import OPEN, sql_list

FAN_OUT_BATCHES = Gauge(
    "cooee_fan_out_batches", "Batches whose fan-out is not finished, at most 10001.", ["service"], registry=REGISTRY
)
FAN_OUT_OLDEST = Gauge(
    "cooee_fan_out_oldest_seconds",
    "Time since the oldest batch whose fan-out is not finished was accepted.",
    ["service"],
    registry=REGISTRY,
)
DISPATCH_OLDEST = Gauge(
    "cooee_dispatch_oldest_seconds",
    "Time for which the oldest single schedule that is not dispatched has been due.",
    ["service"],
    registry=REGISTRY,
)
# The order is that of the index, so that PostgreSQL cannot read the table instead.
_FAN_OUT = f"""
    SELECT ARRAY['scheduling'] AS labels, {{value}} AS value
    FROM (SELECT created_at FROM schedules
          WHERE kind = 'batch' AND fanned_out_at IS NULL AND status IN ({sql_list(OPEN)})
          ORDER BY fan_out_lease_until, id LIMIT {MAX_ROWS}) b
"""
_DISPATCH_OLDEST = """
    SELECT ARRAY['scheduling'] AS labels,
           greatest(0, coalesce((SELECT extract(epoch FROM clock_timestamp() - scheduled_time) FROM schedules
                                 WHERE kind = 'single' AND status = 'pending' AND scheduled_time IS NOT NULL
                                 ORDER BY scheduled_time, id LIMIT 1), 0)) AS value
"""
READINGS = (
    Reading(FAN_OUT_BATCHES, _FAN_OUT.format(value="count(*)")),
    Reading(
        FAN_OUT_OLDEST,
        _FAN_OUT.format(value="coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)"),
    ),
    Reading(DISPATCH_OLDEST, _DISPATCH_OLDEST),
)
