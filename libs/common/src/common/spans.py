"""Make spans with OpenTelemetry and export them by OTLP. Only `common.tracing` imports this module, while it is on.

Spans have no phone, text, token or other value of an organisation, only its id. Therefore they have no events (the
messages of exceptions), no descriptions of errors, and no addresses with their paths and queries.
"""

import atexit
import logging
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any

import aiohttp
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.aiohttp_client import create_trace_config
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from yarl import URL

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]  # as in common.tracing
Send = Callable[[Any], Awaitable[None]]
_HEADER = "traceparent"
_LENGTH, _EVEN = 55, frozenset("02468ace")  # of a traceparent. Its last bit says whether the trace is recorded
_W3C = TraceContextTextMapPropagator()
_NOT_TRACED = ("/health/", "/metrics")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OUR_REQUEST_ID = re.compile(r"[0-9a-f]{32}")  # a client may send an id with any content
_UNTRACED_STATEMENTS = frozenset({"BEGIN;", ";"})  # the begin of a transaction, and the test of a connection
# The fields that an exported span has besides its status. Spans have no events (`make_provider`).
_TIMES = ("start_time", "end_time")
_COPIED = ("name", "context", "parent", "resource", "attributes", "links", "kind", "instrumentation_scope", *_TIMES)
_TIMEOUTS = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
_EXPORT_S = 3.0  # for an export with its repetitions. The usual 10 s would delay a stop
_MAX_ATTRIBUTE = 300  # characters; SQL statements are longer


def start_export(service: str, role: str) -> "Spans":
    """Export the spans of this process to `OTEL_EXPORTER_OTLP_ENDPOINT`, as OpenTelemetry's variables say.

    Statements of asyncpg, under SQLAlchemy too, become spans of the trace in which they run.
    """
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # it warns of each span that it drops
    timeout_s = None if any(name in os.environ for name in _TIMEOUTS) else _EXPORT_S
    provider = make_provider(OTLPSpanExporter(timeout=timeout_s), service, role)
    atexit.register(provider.shutdown)
    AsyncPGInstrumentor().instrument(tracer_provider=provider)  # type: ignore[no-untyped-call]
    return Spans(provider)


def make_provider(exporter: SpanExporter, service: str, role: str) -> TracerProvider:
    """Return a provider of spans that exports them in batches. `shutdown` exports the rest."""
    names = {"service.namespace": "cooee", "service.name": service, "cooee.role": role}
    limits = SpanLimits(max_events=0, max_span_attribute_length=_MAX_ATTRIBUTE)
    provider = TracerProvider(resource=Resource.create(names), span_limits=limits, shutdown_on_exit=False)
    provider.sampler = _OnlyInTraces(provider.sampler)
    provider.add_span_processor(_Processor(_RedactingExporter(exporter)))
    return provider


class _OnlyInTraces(Sampler):
    """Drops statements and requests outside of a trace, such as those of loops that look for work.

    The traceparent of such a request to another service then has the flag "not sampled".
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def should_sample(  # noqa: PLR0913, PLR0917  # OpenTelemetry's signature
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Any = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        """Return whether a span is made."""
        is_outside = not trace.get_current_span(parent_context).get_span_context().is_valid
        if kind is SpanKind.CLIENT and (is_outside or name in _UNTRACED_STATEMENTS):
            return SamplingResult(Decision.DROP)
        return self._sampler.should_sample(
            parent_context, trace_id, name, kind=kind, attributes=attributes, links=links, trace_state=trace_state
        )

    def get_description(self) -> str:
        """Return the name of the sampler inside."""
        return self._sampler.get_description()


class _RedactingExporter(SpanExporter):
    """Removes the descriptions of errors, which may have the values of a statement, before spans are exported.

    While the process stops (`is_stopping`), the first failure ends the export, so that a collector that is away does
    not delay the end.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self.is_stopping = False
        self._exporter = exporter
        self._last = SpanExportResult.SUCCESS

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export spans."""
        if not self.is_stopping or self._last is SpanExportResult.SUCCESS:
            self._last = self._exporter.export([_without_description(span) for span in spans])
        return self._last

    def shutdown(self) -> None:
        """Stop the exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what the exporter holds."""
        return self._exporter.force_flush(timeout_millis)


class _Processor(BatchSpanProcessor):
    """Exports spans in batches, and informs the exporter when the process stops."""

    def __init__(self, exporter: _RedactingExporter) -> None:
        super().__init__(exporter)
        self._redacting_exporter = exporter

    def shutdown(self) -> None:
        """Export the spans that wait."""
        self._redacting_exporter.is_stopping = True
        super().shutdown()  # type: ignore[no-untyped-call]


def _without_description(span: ReadableSpan) -> ReadableSpan:
    if span.status.description is None:
        return span
    return ReadableSpan(**{name: getattr(span, name) for name in _COPIED}, status=Status(span.status.status_code))


class Spans:
    """Makes the spans of one process."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("cooee")

    def wrap_app(self, app: ASGIApp, *, trusts_callers: bool) -> ASGIApp:
        """Return an application that makes a span for each request."""

        async def traced(scope: Any, receive: Any, send: Send) -> None:
            if scope["type"] != "http" or scope["path"].startswith(_NOT_TRACED):
                await app(scope, receive, send)
                return
            given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), None)
            caller = _context(given) if given else Context()
            if trusts_callers and given and _is_unrecorded(given):
                span = trace.get_current_span(caller)
            else:
                parent, links = (caller, []) if trusts_callers else (Context(), _links(caller))
                span = self._tracer.start_span("request", parent, SpanKind.SERVER, links=links)
            if not span.is_recording():
                with _unrecorded(span):
                    await app(scope, receive, send)
                return
            with trace.use_span(span, end_on_exit=True):
                try:
                    await app(scope, receive, _observed(span, send))
                finally:
                    _describe_request(span, scope)

        return traced

    def client_config(self, urls: Mapping[str, str]) -> aiohttp.TraceConfig:
        """Return what makes a span of each request of an aiohttp session, and adds the traceparent to the request.

        The spans have the name of the service and its address without the path. `urls` has the addresses by name.
        """
        names = {str(URL(url).origin()): service for service, url in urls.items()}

        def rename(span: Span, parameters: aiohttp.TraceRequestStartParams) -> None:
            span.update_name(f"{_method(parameters.method)} {names.get(str(parameters.url.origin()), 'another')}")

        return create_trace_config(
            url_filter=lambda url: str(url.origin()), request_hook=rename, tracer_provider=self._provider
        )

    def wrap_consumer(
        self, group: str, handle: Callable[[Sequence[Any]], Awaitable[None]]
    ) -> Callable[[Sequence[Any]], Awaitable[None]]:
        """Return a consumer that makes a span for each record's trace."""

        async def traced(records: Sequence[Any]) -> None:
            attributes = {
                "messaging.system": "kafka",
                "messaging.consumer.group.name": group,
                "messaging.batch.message_count": len(records),
            }
            parents = [self.traceparent_of(record) for record in records]
            topics = "+".join(sorted({record.topic for record in records}))
            with self.span_for_each_trace(f"process {topics}", parents, attributes, kind=SpanKind.CONSUMER):
                await handle(records)

        return traced

    @staticmethod
    def traceparent_of(record: Any) -> str | None:
        """Return the traceparent in the header of a Kafka record."""
        found = next((value for name, value in record.headers or () if name == _HEADER), None)
        return None if found is None else found.decode("latin-1")

    def current(self) -> str | None:
        """Return the traceparent of the current span."""
        context = trace.get_current_span().get_span_context()
        return _traceparent(context) if context.is_valid else None

    def client_headers(self) -> dict[str, str]:
        """Return the traceparent header if the trace is not recorded, else nothing: `client_config` adds it."""
        span = trace.get_current_span()
        context = span.get_span_context()
        return {_HEADER: _traceparent(context)} if context.is_valid and not span.is_recording() else {}

    def start_trace(self, name: str, attributes: Any) -> str:
        """Begin a trace with a span that ends at once. Return its traceparent."""
        span = self._tracer.start_span(name, context=Context(), attributes=attributes)
        span.end()
        return _traceparent(span.get_span_context())

    def record_span(self, name: str, parent: str, attributes: Any, *, since: datetime, link: str | None) -> None:
        """Add a span that began at `since` and ends now to the trace of `parent`."""
        if _is_unrecorded(parent):
            return
        links = _links(_context(link)) if link else ()
        context, start_time = _context(parent), _nanoseconds(since)
        self._tracer.start_span(name, context, attributes=attributes, links=links, start_time=start_time).end()

    @contextmanager
    def span_for_each_trace(
        self, name: str, parents: Iterable[str | None], attributes: Any, kind: SpanKind = SpanKind.INTERNAL
    ) -> Iterator[None]:
        """Make a span in each trace of the parents, or a trace of its own without parents. The first one is current.

        The first span has links to the parents in the other traces, whose spans have a link to the first one.
        """
        given = [parent for parent in dict.fromkeys(parents) if parent is not None]
        unrecorded = next(filter(_is_unrecorded, given), None)
        contexts = [_context(parent) for parent in given if not _is_unrecorded(parent)]
        sampled = {one.trace_id: context for context in contexts if (one := _span_context(context)).trace_flags.sampled}
        if unrecorded and not sampled:
            with _unrecorded(trace.get_current_span(_context(unrecorded))):
                yield
            return
        first, *others = list(sampled.values()) or contexts[:1] or [Context()]
        links = [link for context in others for link in _links(context)]
        with ExitStack() as stack:
            span = stack.enter_context(
                self._tracer.start_as_current_span(name, first, kind=kind, attributes=attributes, links=links)
            )
            link = Link(span.get_span_context())
            for context in others:
                other = self._tracer.start_span(name, context, kind=kind, attributes=attributes, links=[link])
                stack.callback(other.end)
            yield

    def set_result(self, result: str, *, is_error: bool) -> None:
        """Add a result to the current span."""
        span = trace.get_current_span()
        span.set_attribute("result", result)
        if is_error:
            span.set_status(StatusCode.ERROR)

    @contextmanager
    def transmission(self, rows: Sequence[Any]) -> Iterator[Sequence[str | None]]:
        """Make a span for each row of the outbox with a traceparent, and yield the traceparents of the spans."""
        with ExitStack() as stack:
            yield [row.traceparent and self._transmit(row, stack) for row in rows]

    def _transmit(self, row: Any, stack: ExitStack) -> str:
        if _is_unrecorded(row.traceparent):
            return str(row.traceparent)
        attributes = {"messaging.system": "kafka", "messaging.destination.name": row.topic}
        context, start_time = _context(row.traceparent), _nanoseconds(row.created_at)
        name, kind = f"send {row.topic}", SpanKind.PRODUCER
        span = self._tracer.start_span(name, context, kind, attributes=attributes, start_time=start_time)
        stack.callback(span.end)
        return _traceparent(span.get_span_context())


def _context(traceparent: str) -> Context:
    return _W3C.extract({_HEADER: traceparent}, Context())


def _span_context(context: Context) -> SpanContext:
    return trace.get_current_span(context).get_span_context()


def _links(context: Context) -> list[Link]:
    found = _span_context(context)
    return [Link(found)] if found.is_valid else []


def _traceparent(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _is_unrecorded(traceparent: str) -> bool:
    return len(traceparent) == _LENGTH and traceparent[-1] in _EVEN


@contextmanager
def _unrecorded(span: Span) -> Iterator[None]:
    """Make an unrecorded span current, and suppress the spans of the libraries inside it.

    When one trace in a hundred is recorded, the others should cost nearly nothing. A span that a library makes and
    drops costs nearly as much as one that is recorded.
    """
    with trace.use_span(span), suppress_instrumentation():
        yield


def _nanoseconds(time: datetime) -> int:
    return int(time.timestamp() * 1e6) * 1000


def _method(method: str) -> str:
    return method if method in _METHODS else "_OTHER"


def _observed(span: Span, send: Send) -> Send:
    """Return a `send` that adds the status and our request id to the span."""

    async def send_observed(message: Any) -> None:
        if message["type"] == "http.response.start":
            span.set_attribute("http.response.status_code", message["status"])
            if message["status"] >= 500:
                span.set_status(StatusCode.ERROR)
            for name, value in message["headers"]:
                if name == b"x-request-id" and _OUR_REQUEST_ID.fullmatch(value.decode("latin-1")):
                    span.set_attribute("request_id", value.decode("latin-1"))
        await send(message)

    return send_observed


def _describe_request(span: Span, scope: Any) -> None:
    """Add the method, the template of the path and the organisation, which are known at the end of the request."""
    method = _method(scope["method"])
    route = str(scope.get("route_template") or getattr(scope.get("route"), "path", "-"))
    span.update_name(f"{method} {route}")
    span.set_attributes({"http.request.method": method, "http.route": route})
    if organisation := scope.get("caller_log", {}).get("organisation"):
        span.set_attribute("organisation_id", organisation)
