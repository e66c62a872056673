"""A collector of traces: it takes spans by OTLP over HTTP, and stores them in memory."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class CollectedSpan:
    """A span and the process that made it, such as `delivery worker`."""

    process: str
    name: str
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    linked_traces: frozenset[bytes]
    attributes: dict[str, Any]


@dataclass
class Collector:
    """The spans that arrived, and the bodies of the requests."""

    url: str = ""
    spans: list[CollectedSpan] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def trace(self, trace_id: bytes) -> list[CollectedSpan]:
        """Return the spans of one trace."""
        return [span for span in self.spans if span.trace_id == trace_id]

    async def collect(self, request: web.Request) -> web.Response:
        """Store the spans of a request."""
        self.bodies.append(body := await request.read())
        self.spans.extend(_decode(body))
        return web.Response(content_type="application/x-protobuf")


def _decode(body: bytes) -> Iterator[CollectedSpan]:
    for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = {pair.key: pair.value.string_value for pair in resource_spans.resource.attributes}
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                assert not span.events
                assert not span.status.message
                yield CollectedSpan(
                    process=f"{resource['service.name']} {resource['cooee.role']}",
                    name=span.name,
                    trace_id=span.trace_id,
                    span_id=span.span_id,
                    parent_id=span.parent_span_id,
                    linked_traces=frozenset(link.trace_id for link in span.links),
                    attributes={pair.key: pair.value.string_value for pair in span.attributes},
                )


def parentless(spans: Sequence[CollectedSpan]) -> list[CollectedSpan]:
    """Return the spans whose parent is not among the spans."""
    ids = {span.span_id for span in spans}
    return [span for span in spans if span.parent_id not in ids]


@asynccontextmanager
async def run_collector() -> AsyncIterator[Collector]:
    """Run a collector on a free port."""
    collector = Collector()
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/traces", collector.collect)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield collector
    finally:
        await runner.cleanup()
