"""The figures and the verdict of a chaos run, as lines and as JSON."""

from collections import Counter
from dataclasses import asdict
from typing import Any

from scheduling.models import ScheduleKind
from tools.chaos.checks import PROMISES
from tools.chaos.run import Result

_SHOWN = 20  # violations of one promise


def figures(result: Result) -> dict[str, Any]:
    """Return the figures of a run by name."""
    records, evidence = result.records, result.evidence
    requests = records.requests.values()
    messages = [row for row in evidence.schedules if row.kind != ScheduleKind.BATCH]
    return {
        "seed": result.seed,
        "broker": result.broker,
        "load_s": result.load_s,
        "load_average": round(result.load_average, 1),
        "green_s": _rounded(result.green_s),
        "clients_s": _rounded(result.clients_s),
        "idle_s": _rounded(result.idle_s),
        "faults": dict(Counter(str(fault.kind) for fault in result.injected)),
        "requests": records.statuses.total(),
        "statuses": {str(status): number for status, number in sorted(records.statuses.items())},
        "actions": dict(sorted(records.actions.items())),
        "accepted": sum(request.is_accepted for request in requests),
        "refused": sum(400 <= request.status < 500 for request in requests),
        "repeated": records.repeated,
        "answers_compared": records.replayed,
        "messages": dict(Counter(row.status for row in messages)),
        "failures": dict(Counter(row.failure_category for row in messages if row.status == "failed")),
        "arrived": len(evidence.arrivals),
        "barriers": dict(Counter(str(barrier.kind) for barrier in records.barriers)),
        "in_flight_at_opt_out": len(result.in_flight),
        "latest_in_flight_s": _rounded(max(result.in_flight, default=None)),
        "violations": len(result.violations),
    }


def as_json(result: Result) -> dict[str, Any]:
    """Return the figures, the plan, the faults that happened and the violations."""
    return {
        **figures(result),
        "plan": [asdict(fault) for fault in result.plan],
        "injected": [asdict(fault) for fault in result.injected],
        "violations": [violation._asdict() for violation in result.violations],
    }


def lines(result: Result) -> list[str]:
    """Return the report for people."""
    shown = [f"  {name:<22}{_text(value)}" for name, value in figures(result).items()]
    for number, promise in PROMISES.items():
        found = [violation.what for violation in result.violations if violation.promise == number]
        shown.append(f"  {'KEPT' if not found else f'VIOLATED {len(found)} times':<22}({number}) {promise}")
        shown += [f"      {what}" for what in found[:_SHOWN]]
    return shown


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items()) or "-"
    return "-" if value is None else str(value)
