"""Traces: what a span is part of, what it has not, and that nothing of OpenTelemetry is loaded while they are off."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
import asyncpg
import httpx
import pytest
from aiohttp import web
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import text

from common import tracing
from common.bus import consume
from common.database import Database
from common.events import OrganisationChanged
from common.outbox import publish
from common.spans import Spans, make_provider

FIRST, SECOND = "0af7651916cd43dd8448eb211c80319c", "1bf7651916cd43dd8448eb211c80319d"


def traceparent(trace_id: str, *, is_sampled: bool = True) -> str:
    return f"00-{trace_id}-b7ad6b7169203331-{2 + int(is_sampled):02x}"  # OpenTelemetry sets 2: the id is random


def is_sampled(trace: str) -> bool:
    return bool(int(trace[-2:], 16) & 1)


@dataclass
class Stage:
    """Spans that are made in this process."""

    provider: TracerProvider
    exporter: InMemorySpanExporter

    def finished(self) -> dict[str, ReadableSpan]:
        """Return the spans that ended, by trace id and name."""
        self.provider.force_flush()
        return {f"{_trace_id(span)} {span.name}": span for span in self.exporter.get_finished_spans()}


def _trace_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Switch traces on, with spans in memory."""
    exporter = InMemorySpanExporter()
    provider = make_provider(exporter, "sample", "api")
    tracing.set_spans(Spans(provider))
    yield Stage(provider, exporter)
    tracing.set_spans(None)
    provider.shutdown()


@dataclass
class StoredRecord:
    """A record of Kafka, as far as consumers read it."""

    topic: str
    value: bytes
    headers: list[tuple[str, bytes]]


def record(event: OrganisationChanged, trace: str | None) -> StoredRecord:
    headers = [("traceparent", trace.encode())] if trace else []
    return StoredRecord(event.topic, event.model_dump_json().encode(), headers)


def changed(version: int) -> OrganisationChanged:
    return OrganisationChanged(organisation_id="org_1", closed=False, version=version)


@pytest.mark.parametrize("module", ["gateway.app", "scheduling.app", "scheduling.worker", "delivery.worker"])
def test_without_the_settings_neither_library_is_loaded(module: str) -> None:
    program = f"""
import sys, common.cli, {module}
from common import error_reports, tracing
from common.settings import CommonSettings
CommonSettings.service = "sample"
settings = CommonSettings(port=1, internal_token_secret="s" * 32)
tracing.start(settings, "api")
assert error_reports.start(settings, "api") is None
parts = ("sdk", "exporter", "instrumentation")  # FastAPI and FastStream load the interfaces
names = ("sentry_sdk", "common.spans", *(f"opentelemetry.{{part}}" for part in parts))
loaded = [name for name in sys.modules if name.startswith(names)]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", program], check=True, env={}, timeout=60)


def test_without_traces_nothing_is_wrapped() -> None:
    async def app(_: Any, __: Any, ___: Any) -> None: ...

    async def consumer(_: Any) -> None: ...

    assert tracing.wrap_app(app, "gateway") is app
    assert tracing.wrap_consumer("sample.test", consumer) is consumer
    assert tracing.client_configs({"contacts": "http://127.0.0.1:1"}) == []
    assert changed(1).traceparent is None


def test_several_traces_are_joined_by_links(stage: Stage) -> None:
    parents = [traceparent(FIRST), None, traceparent(SECOND), traceparent(FIRST)]
    with tracing.span_for_each_trace("submit", parents, {"messages": 4}):
        inside = tracing.current()
        tracing.set_result("rate_limited", is_error=True)
    spans = stage.finished()
    assert set(spans) == {f"{FIRST} submit", f"{SECOND} submit"}
    first, second = spans[f"{FIRST} submit"], spans[f"{SECOND} submit"]
    assert inside is not None
    assert FIRST in inside
    assert [f"{link.context.trace_id:032x}" for link in first.links] == [SECOND]
    assert [link.context for link in second.links] == [first.context]
    assert first.attributes == {"messages": 4, "result": "rate_limited"}
    assert first.status.status_code is StatusCode.ERROR


def test_unsampled_trace_stays_unsampled(stage: Stage) -> None:
    with tracing.span_for_each_trace("submit", [traceparent(FIRST, is_sampled=False)], {}):
        inside = tracing.current()
        assert not is_instrumentation_enabled()
    assert inside is not None
    assert FIRST in inside
    assert not is_sampled(inside)
    assert not stage.finished()


def test_recorded_trace_of_a_batch_is_current_among_others(stage: Stage) -> None:
    parents = [traceparent(SECOND, is_sampled=False), "00-not-a-traceparent", traceparent(FIRST)]
    with tracing.span_for_each_trace("submit", parents, {}):
        inside = tracing.current()
        assert is_instrumentation_enabled()
    assert inside is not None
    assert FIRST in inside
    assert set(stage.finished()) == {f"{FIRST} submit"}


def test_share_of_the_settings_decides_about_new_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    exporter = InMemorySpanExporter()
    provider = make_provider(exporter, "sample", "api")
    spans = Spans(provider)
    begun = spans.start_trace("new", {})
    assert begun is not None
    assert not is_sampled(begun)
    spans.record_span("continued", traceparent(FIRST), {}, since=datetime.now(UTC), link=None)
    provider.shutdown()
    assert [span.name for span in exporter.get_finished_spans()] == ["continued"]


async def test_event_carries_its_trace_through_outbox_and_record(stage: Stage, database: Database) -> None:
    with tracing.span_for_each_trace("request", [traceparent(FIRST)], {}):
        inside = changed(1)
    outside = changed(2)
    assert "traceparent" not in inside.model_dump_json()
    async with database.all_tenants() as session:
        await publish(session, [inside, outside])
        rows = (
            await session.execute(text("SELECT topic, body, traceparent, created_at FROM outbox ORDER BY id"))
        ).all()
    assert FIRST in rows[0].traceparent
    assert FIRST not in rows[1].traceparent  # an event outside of a trace begins one
    with tracing.transmission(rows) as sent:
        records = [
            StoredRecord(row.topic, row.body, [("traceparent", str(one).encode())])
            for row, one in zip(rows, sent, strict=True)
        ]
    received: list[OrganisationChanged] = []

    async def apply(_: Any, events: list[OrganisationChanged]) -> None:
        received.extend(events)

    async def on_organisation_changed(batch: Any) -> None:
        await consume(database, OrganisationChanged, batch, apply)

    await tracing.wrap_consumer("sample.test", on_organisation_changed)(records)
    assert [event.traceparent for event in received] == list(sent)
    spans = stage.finished()
    topic, second = OrganisationChanged.topic, rows[1].traceparent.split("-")[1]
    assert {f"{FIRST} {step} {topic}" for step in ("send", "process")} <= set(spans)
    assert {f"{second} {topic}", f"{second} send {topic}", f"{second} process {topic}"} <= set(spans)


async def test_record_without_a_trace_is_consumed(stage: Stage, database: Database) -> None:
    received: list[Any] = []

    async def apply(_: Any, events: list[OrganisationChanged]) -> None:
        received.extend(events)

    async def on_organisation_changed(batch: Any) -> None:
        await consume(database, OrganisationChanged, batch, apply)

    broken = record(changed(2), "00-not-a-traceparent")
    await tracing.wrap_consumer("sample.test", on_organisation_changed)([record(changed(1), None), broken])
    assert [event.version for event in received] == [1, 2]
    assert len(stage.finished()) == 1


@pytest.mark.parametrize("service", ["gateway", "contacts"])
async def test_request_has_a_span_without_its_address(
    stage: Stage, serve: Callable[[Any], httpx.AsyncClient], service: str
) -> None:
    async def app(scope: Any, _: Any, send: Any) -> None:
        scope["route_template"] = "/api/contacts/{contact_id}/"
        scope["caller_log"] = {"organisation": "org_1"}
        id_of_client = (b"x-request-id", b"0491570006")
        await send({"type": "http.response.start", "status": 503, "headers": [id_of_client]})
        await send({"type": "http.response.body", "body": b""})

    async with serve(tracing.wrap_app(app, service)) as client:
        headers = {"traceparent": traceparent(FIRST), "Authorization": "Bearer secret"}
        await client.get("/api/contacts/7/?search=0491570006", headers=headers)
        await client.get("/health/live")
    (span,) = stage.finished().values()
    assert (_trace_id(span) == FIRST) is (service != "gateway")  # the gateway's clients choose no trace
    assert [f"{link.context.trace_id:032x}" for link in span.links] == ([FIRST] if service == "gateway" else [])
    assert (span.name, span.kind) == ("GET /api/contacts/{contact_id}/", SpanKind.SERVER)
    assert span.attributes == {
        "http.request.method": "GET",
        "http.route": "/api/contacts/{contact_id}/",
        "http.response.status_code": 503,
        "organisation_id": "org_1",
    }
    assert span.status.status_code is StatusCode.ERROR


async def test_request_to_a_service_continues_the_trace(stage: Stage) -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("traceparent", ""))
        return web.Response()

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession(trace_configs=tracing.client_configs({"contacts": url})) as client:
        with tracing.span_for_each_trace("request", [traceparent(FIRST)], {}):
            await client.get(f"{url}/internal/contacts/7/?phone=0491570006")
        await client.get(url)
        with tracing.span_for_each_trace("request", [traceparent(SECOND, is_sampled=False)], {}):
            await client.get(url, headers=tracing.client_headers())
    await runner.cleanup()
    assert [(FIRST in one, is_sampled(one)) for one in seen] == [(True, True), (False, False), (False, False)]
    assert SECOND in seen[2]
    spans = stage.finished()
    assert set(spans) == {f"{FIRST} request", f"{FIRST} GET contacts"}
    assert "7" not in str(dict(spans[f"{FIRST} GET contacts"].attributes or {})).replace(url, "")


@pytest.mark.parametrize("service", ["gateway", "contacts"])
async def test_request_that_is_not_recorded_continues_its_trace_without_spans(
    stage: Stage, serve: Callable[[Any], httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    tracing.set_spans(Spans(make_provider(stage.exporter, "sample", "api")))
    seen: list[Any] = []

    async def app(_: Any, __: Any, send: Any) -> None:
        seen.append((tracing.current(), tracing.client_headers(), is_instrumentation_enabled()))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serve(tracing.wrap_app(app, service)) as client:
        await client.get("/api/contacts/", headers={"traceparent": traceparent(FIRST, is_sampled=False)})
    ((inside, headers, is_enabled),) = seen
    assert not is_sampled(inside)
    assert (FIRST in inside) is (service != "gateway")  # the gateway's clients choose no trace
    assert headers == {"traceparent": inside}
    assert not is_enabled
    assert not stage.finished()


async def test_failed_statement_exports_no_values(stage: Stage, postgres_url: str) -> None:
    instrumentor = AsyncPGInstrumentor()
    instrumentor.instrument(tracer_provider=stage.provider)
    try:
        connection = await asyncpg.connect(postgres_url)
        await connection.execute("SELECT 1")  # outside of a trace
        inside = tracing.span_for_each_trace("request", [traceparent(FIRST)], {})
        with inside, pytest.raises(asyncpg.PostgresError, match="0491570006"):
            await connection.fetch("SELECT CAST($1::text AS int)", "0491570006 Hello")
        await connection.close()
    finally:
        instrumentor.uninstrument()
    spans = stage.finished()
    assert set(spans) == {f"{FIRST} request", f"{FIRST} SELECT"}
    failed = spans[f"{FIRST} SELECT"]
    assert (failed.status.status_code, failed.status.description, list(failed.events)) == (StatusCode.ERROR, None, [])
    assert "0491570006" not in failed.to_json()
