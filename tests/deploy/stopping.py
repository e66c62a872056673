"""How long a process needs to stop, by its settings. Kubernetes and Compose must both leave it this time."""

from collections.abc import Mapping

from common.settings import CommonSettings

MARGIN_S = 10  # to close the interpreter, and for a busy machine


def stop_s(role: str, environment: Mapping[str, str | None]) -> float:
    """Return the longest time from SIGTERM to the end of an API, a worker or the operators' page."""
    longest_s = float(environment.get("STOP_TIMEOUT_S") or CommonSettings.model_fields["stop_timeout_s"].default)
    if role == "worker":
        return longest_s
    return float(environment.get("DRAIN_S") or 0) + longest_s / 2
