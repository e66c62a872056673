"""Traces of requests and messages by OpenTelemetry. They are off unless `OTEL_EXPORTER_OTLP_ENDPOINT` is set.

While they are off, OpenTelemetry is not imported and nothing is wrapped. `common.spans` makes the spans while they are
on. A *traceparent* is the text by which W3C's Trace Context names a span. It goes with a request as a header, and with
a message in the outbox, on Kafka and in the tables of delivery.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from common.settings import CommonSettings

if TYPE_CHECKING:
    from common.spans import Spans

EventT = TypeVar("EventT", bound=BaseModel)
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]  # the use cases, which import this module, know no Starlette
Attributes = dict[str, str | int]
_spans: "Spans | None" = None


def start(settings: CommonSettings, role: str) -> None:
    """Switch the traces of this process on, if the settings say so. Call it before anything is created."""
    if settings.otel_exporter_otlp_endpoint:
        from common.spans import start_export  # noqa: PLC0415  # only this case needs OpenTelemetry

        set_spans(start_export(settings.service, role))


def set_spans(spans: "Spans | None") -> None:
    """Make spans by `spans` from now on, or none."""
    global _spans
    _spans = spans


def wrap_app(app: ASGIApp, service: str) -> ASGIApp:
    """Return an ASGI application that makes a span for each request, or the same application without traces.

    The gateway's clients do not decide which requests are traced, so their traceparent becomes a link of a new trace.
    """
    return app if _spans is None else _spans.wrap_app(app, trusts_callers=service != "gateway")


def wrap_consumer(
    group: str, handle: Callable[[Sequence[Any]], Awaitable[None]]
) -> Callable[[Sequence[Any]], Awaitable[None]]:
    """Return a consumer that makes a span for each record's trace, or the same consumer without traces."""
    return handle if _spans is None else _spans.wrap_consumer(group, handle)


def client_configs(urls: Mapping[str, str]) -> list[Any]:
    """Return the `trace_configs` of an aiohttp session whose requests go to these services (name → address).

    There are none without traces.
    """
    return [] if _spans is None else [_spans.client_config(urls)]


def client_headers() -> dict[str, str]:
    """Return the traceparent header if the trace is not recorded, else nothing: `client_configs` add it."""
    return {} if _spans is None else _spans.client_headers()


def current() -> str | None:
    """Return the traceparent of the current span, None without one."""
    return None if _spans is None else _spans.current()


def start_trace(name: str, attributes: Attributes) -> str | None:
    """Begin a trace with a span that ends at once, and return its traceparent. Return None without traces."""
    return None if _spans is None else _spans.start_trace(name, attributes)


def record_span(
    name: str, parent: str | None, attributes: Attributes, *, since: datetime, link: str | None = None
) -> None:
    """Add a span that began at `since` and ends now to the trace of `parent`. Without `parent` do nothing."""
    if _spans is not None and parent is not None:
        _spans.record_span(name, parent, attributes, since=since, link=link)


def span_for_each_trace(
    name: str, parents: Iterable[str | None], attributes: Attributes
) -> AbstractContextManager[None]:
    """Make a span in the trace of each parent. They are linked, and what happens inside is in the first trace."""
    return nullcontext() if _spans is None else _spans.span_for_each_trace(name, parents, attributes)


def set_result(result: str, *, is_error: bool) -> None:
    """Add a result to the current span."""
    if _spans is not None:
        _spans.set_result(result, is_error=is_error)


def transmission(rows: Sequence[Any]) -> AbstractContextManager[Sequence[str | None]]:
    """Yield the traceparent with which each row of the outbox goes to Kafka: that of a span that began with the row."""
    return nullcontext([row.traceparent for row in rows]) if _spans is None else _spans.transmission(rows)


def continued(event: EventT, record: Any) -> EventT:
    """Return an event with the traceparent that is in the header of its record."""
    if _spans is None:
        return event
    return event.model_copy(update={"traceparent": _spans.traceparent_of(record)})
