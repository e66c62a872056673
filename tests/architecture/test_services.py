"""Every service as it runs: its routes know their caller, its consumers read safely, its settings are documented."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from common.bus import make_bus
from common.events import EVENTS
from common.http.deps import get_caller
from common.http.errors import all_routes
from common.settings import StoreSettings
from gateway.routes import find_route, normalise

from .conftest import ROOT, SERVICES

STORES = SERVICES[:3]
# Routes without a token; each verifies a signature of its own.
PUBLIC = re.compile(r"/api/webhooks/.*|/media/.*")
# Routes for probes and Prometheus, which the gateway does not forward.
INTERNAL = ("/health/", "/metrics")
ENVIRONMENT = {
    "INTERNAL_TOKEN_SECRET": "s" * 32,
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "CLERK_ISSUER": "http://127.0.0.1:1",
    "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQ=",
    **{f"{service.upper()}_DATABASE_URL": f"postgresql://{service}:p@127.0.0.1:1/x" for service in STORES},
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def settings_class(service: str) -> type[Any]:
    found: type[Any] = importlib.import_module(f"{service}.settings").Settings
    return found


def routes(service: str) -> Iterator[APIRoute]:
    app = importlib.import_module(f"{service}.app").create_app(settings_class(service)())
    for route in all_routes(app.routes):
        if isinstance(route, APIRoute):
            yield route


def needs(route: APIRoute) -> dict[str, Any]:
    """Return everything that the route depends on, by name."""
    found, waiting = {}, list(route.dependant.dependencies)
    while waiting:
        dependant = waiting.pop()
        found[getattr(dependant.call, "__name__", type(dependant.call).__name__)] = dependant.call
        waiting += dependant.dependencies
    return found


@pytest.mark.parametrize("service", STORES)
async def test_no_request_waits_for_a_thread(service: str) -> None:
    """FastAPI runs plain functions in a thread pool, endpoints and dependencies alike."""
    plain = [
        f"{route.path}: {name}"
        for route in routes(service)
        for name, call in {**needs(route), route.endpoint.__name__: route.endpoint}.items()
        if not any(check(call) for check in (inspect.iscoroutinefunction, inspect.isasyncgenfunction))
        and not inspect.iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004
    ]
    assert not plain


@pytest.mark.parametrize("service", STORES)
async def test_every_route_knows_its_caller(service: str) -> None:
    unguarded = []
    for route in routes(service):
        wanted = (
            {"get_internal_caller", "get_internal_session", "get_internal_tenant"}
            if "/internal/" in route.path
            else {get_caller.__name__}
        )
        if not (set(needs(route)) & wanted or PUBLIC.fullmatch(route.path) or route.path.startswith(INTERNAL)):
            unguarded.append(f"{route.methods} {route.path}")
        assert "/internal/" not in route.path or not route.include_in_schema
    assert not unguarded


@pytest.mark.parametrize("service", STORES)
async def test_every_public_route_is_reached_through_the_gateway_and_no_internal_one(service: str) -> None:
    for route in routes(service):
        path = re.sub(r"\{[^}]*\}", "7", route.path)
        found = find_route(normalise(path))
        if route.path.startswith(("/internal/", *INTERNAL)):
            assert found is None, path
        else:
            assert found is not None, path
            assert found.service == service, path
            assert route.path.endswith("/") or route.path.startswith("/media/"), path
            assert found.public == bool(PUBLIC.fullmatch(route.path)), path


@pytest.mark.parametrize("service", STORES)
async def test_every_subscriber_reads_safely(service: str) -> None:
    worker = await importlib.import_module(f"{service}.worker").create_worker(settings_class(service)())
    groups = []
    for subscriber in worker.bus.broker.subscribers:
        arguments = subscriber._connection_args
        assert subscriber.ack_policy.value == "nack_on_error"
        assert arguments["auto_offset_reset"] == "earliest"
        assert arguments["rebalance_timeout_ms"] == 60_000
        assert arguments["max_poll_interval_ms"] == 300_000
        assert subscriber.group_id.startswith(f"{service}.")
        groups.append(subscriber.group_id)
    assert len(groups) == len(set(groups)), "two members of one group in one event loop"
    topics = {topic.name for subscriber in worker.bus.broker.subscribers for topic in subscriber.topics}
    assert topics <= {event.topic for event in EVENTS}
    await worker.database.close()


def test_only_the_bus_module_makes_subscribers() -> None:
    assert callable(make_bus)
    found = [path for path in ROOT.glob("services/*/src/**/*.py") if ".subscriber(" in path.read_text()]
    assert not found


def test_the_example_environment_is_generated_from_the_settings() -> None:
    from tools.env_example import build

    assert (ROOT / ".env.example").read_text() == build(), "run `make docs`"


@pytest.mark.parametrize(
    ("service", "variable"),
    [
        *((service, "INTERNAL_TOKEN_SECRET") for service in SERVICES),
        *((service, f"{service.upper()}_DATABASE_URL") for service in STORES),
        ("contacts", "CLERK_WEBHOOK_SIGNING_SECRET"),
        ("gateway", "CLERK_ISSUER"),
    ],
)
def test_a_service_that_lacks_a_secret_refuses_to_start_and_names_it(
    service: str, variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from common.settings import load_settings

    monkeypatch.delenv(variable)
    with pytest.raises(SystemExit) as end:
        load_settings(settings_class(service))
    assert end.value.code == 2
    assert variable in capsys.readouterr().err


@pytest.mark.parametrize(
    ("role", "variable", "value"),
    [
        ("worker", "SMS_PROVIDERS", "nonsuch"),
        ("worker", "MMS_PROVIDERS", "nonsuch"),
        ("api", "STORAGE_PROVIDER", "attic"),
    ],
)
def test_an_unknown_name_in_a_setting_ends_the_process_with_an_error(role: str, variable: str, value: str) -> None:
    command = [sys.executable, "-m", "delivery", role]
    ended = subprocess.run(
        command, env={**os.environ, variable: value}, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert variable in ended.stderr
    assert value in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_error_for_a_bad_value_has_its_name_and_not_the_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from common.settings import load_settings

    monkeypatch.setenv("INTERNAL_TOKEN_SECRET", "short-secret")
    with pytest.raises(SystemExit):
        load_settings(settings_class("delivery"))
    shown = capsys.readouterr().err
    assert "INTERNAL_TOKEN_SECRET" in shown
    assert "short-secret" not in shown
    assert issubclass(settings_class("delivery"), StoreSettings)
