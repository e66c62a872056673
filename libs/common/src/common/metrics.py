"""The metrics that all processes have, and the registry that `/metrics` renders.

A label has values from a closed set: services, route templates, loops, topics. Organisations, phones and texts are
never labels. docs/operators.md lists every metric.

An API with several processes (`API_WORKERS`) shares its values in files, by the variable PROMETHEUS_MULTIPROC_DIR. Any
of its processes then renders the sum of all.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import prometheus_client
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the number of series

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
_FILES = "PROMETHEUS_MULTIPROC_DIR"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 5, 10, 25, 50, 100, 250, 500, 1000, 5000)

HTTP_REQUESTS = Counter(
    "cooee_http_requests_total",
    "Requests that were answered.",
    ["service", "method", "route", "status"],
    registry=REGISTRY,
)
HTTP_SECONDS = Histogram(
    "cooee_http_request_seconds",
    "Time from a request to the end of its answer.",
    ["service", "method", "route"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
BATCH_RECORDS = Histogram(
    "cooee_consumer_batch_records", "Records of a consumer's batch.", ["group"], buckets=_SIZES, registry=REGISTRY
)
BATCH_SECONDS = Histogram(
    "cooee_consumer_batch_seconds", "Time of a consumer's batch.", ["group"], buckets=_SECONDS, registry=REGISTRY
)
BATCH_FAILURES = Counter(
    "cooee_consumer_failures_total",
    "Batches that failed. Kafka delivers them again.",
    ["group"],
    registry=REGISTRY,
)
CONSUMER_LAG = Gauge(
    "cooee_consumer_lag",
    "Records after the batch that a consumer handles, in the partitions that this process reads.",
    ["group", "topic"],
    registry=REGISTRY,
)
PAUSED_TOPICS = Gauge(
    "cooee_paused_topics",
    "Topics that are not read because of too many dead letters.",
    ["service"],
    registry=REGISTRY,
)
LOOP_SECONDS = Histogram(
    "cooee_loop_step_seconds", "Time of a loop's step.", ["service", "loop"], buckets=_SECONDS, registry=REGISTRY
)
LOOP_ROWS = Histogram(
    "cooee_loop_batch_rows",
    "Rows that one step of a loop handled.",
    ["service", "loop"],
    buckets=_SIZES,
    registry=REGISTRY,
)
LOOP_FAILURES = Counter(
    "cooee_loop_failures_total", "Steps of a loop that failed.", ["service", "loop"], registry=REGISTRY
)
POOL_IN_USE = Gauge(
    "cooee_pool_connections_in_use",
    "Connections to PostgreSQL that are in use.",
    ["service", "pool"],
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
POOL_SIZE = Gauge(
    "cooee_pool_connections_max",
    "Connections that a pool may open.",
    ["service", "pool"],
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
DATABASE_UP = Gauge(
    "cooee_database_up",
    "1 when the values that come from the database could be read, 0 when they are missing.",
    ["service"],
    registry=REGISTRY,
)
OUTBOX_ROWS = Gauge(
    "cooee_outbox_rows", "Events that wait for the relay, at most 10001.", ["service"], registry=REGISTRY
)
OUTBOX_OLDEST = Gauge(
    "cooee_outbox_oldest_seconds", "Age of the oldest event that waits for the relay.", ["service"], registry=REGISTRY
)
DEAD_LETTERS = Gauge(
    "cooee_dead_letters",
    "Dead letters that no operator acknowledged, at most 10001.",
    ["service", "topic"],
    registry=REGISTRY,
)


class RequestMetrics:
    """Counts the requests of one service. It stores the object of each combination of labels, which is slow to find."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._times: dict[tuple[str, str], Histogram] = {}

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. `route` is the template of its path, "-" when no route matched."""
        if method not in _METHODS:  # clients may invent methods
            method = "other"
        counter = self._counters.get((method, route, status))
        if counter is None:
            counter = HTTP_REQUESTS.labels(self._service, method, route, str(status))
            self._counters[method, route, status] = counter
        times = self._times.get((method, route))
        if times is None:
            times = self._times[method, route] = HTTP_SECONDS.labels(self._service, method, route)
        counter.inc()
        times.observe(seconds)


class BatchMetrics:
    """Measures the batches of one consumer group."""

    def __init__(self, group: str) -> None:
        self._records = BATCH_RECORDS.labels(group)
        self._seconds = BATCH_SECONDS.labels(group)
        self._failures = BATCH_FAILURES.labels(group)

    @contextmanager
    def measure(self, records: int) -> Iterator[None]:
        """Add a batch that is handled inside."""
        self._records.observe(records)
        with self._seconds.time(), self._failures.count_exceptions():
            yield


def pool_in_use(application: str, pool: str, size: int) -> Gauge:
    """Return the gauge of a pool's connections in use. `application` begins with the name of the service."""
    labels = application.split(maxsplit=1)[0], pool
    POOL_SIZE.labels(*labels).set(size)
    return POOL_IN_USE.labels(*labels)


@contextmanager
def shared_by_processes() -> Iterator[None]:
    """Let the processes that are started inside share their metrics in a temporary folder."""
    if _FILES in os.environ:
        yield
        return
    with TemporaryDirectory(prefix="cooee-metrics-") as folder:
        os.environ[_FILES] = folder
        try:
            yield
        finally:
            del os.environ[_FILES]


def render() -> bytes:
    """Return all metrics in Prometheus's text format, of all processes of an API that has several."""
    folder = os.environ.get(_FILES)
    if folder is None:
        return prometheus_client.generate_latest(REGISTRY)
    for pid in {int(found[1]) for file in Path(folder).iterdir() if (found := re.search(r"_(\d+)\.db$", file.name))}:
        if not _is_alive(pid):
            with suppress(FileNotFoundError):  # another process was faster
                mark_process_dead(pid)  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    return prometheus_client.generate_latest(registry)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
