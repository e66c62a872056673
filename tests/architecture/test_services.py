"""The running shape of every service: its routes have a tenant, its subscribers read safely, its settings are told."""

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
from pydantic_settings import BaseSettings

from common.bus import make_broker, subscribe
from common.events import EVENTS
from common.http.deps import get_caller
from common.http.errors import all_routes
from common.settings import StoreSettings, env_name
from common.topics import TopicSettings
from gateway.routes import find_route, normalise
from tools.embedded.environment import PORTS

from .conftest import ROOT, SERVICES

STORES = SERVICES[:3]
# Anyone may call these; each verifies a signature of its own.
PUBLIC = re.compile(r"/api/webhooks/.*|/media/.*")
ENVIRONMENT = {
    "INTERNAL_TOKEN_SECRET": "s" * 32,
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "CLERK_ISSUER": "http://127.0.0.1:1",
    "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQ=",
    **{f"{service.upper()}_DATABASE_URL": f"postgresql://{service}:p@127.0.0.1:1/x" for service in STORES},
}
# What tools and containers are told beside the services.
TOOLS = {
    *PORTS,
    *("COOEE_HOME", "DATABASE_URL", "POSTGRES_PASSWORD", "COMPOSE_PROJECT_NAME", "ISSUER_HOST"),
    *("HANDSET_HOST", "HANDSET_LOG", "HANDSET_LATENCY_MS", "HANDSET_CONCURRENCY"),
    *("HANDSET_USERNAME", "HANDSET_PASSWORD", "HANDSET_RECEIPTS", "HANDSET_WEBHOOK_BASE"),
    *(f"{service.upper()}_DATABASE_PASSWORD" for service in STORES),
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
    """Everything that the route depends on, by name."""
    found, waiting = {}, list(route.dependant.dependencies)
    while waiting:
        dependant = waiting.pop()
        found[getattr(dependant.call, "__name__", type(dependant.call).__name__)] = dependant.call
        waiting += dependant.dependencies
    return found


@pytest.mark.parametrize("service", STORES)
async def test_no_request_waits_for_a_thread(service: str) -> None:
    """FastAPI runs plain functions, endpoints and dependencies alike, in a pool of threads."""
    plain = [
        f"{route.path}: {name}"
        for route in routes(service)
        for name, call in {**needs(route), route.endpoint.__name__: route.endpoint}.items()
        if not any(check(call) for check in (inspect.iscoroutinefunction, inspect.isasyncgenfunction))
        and not inspect.iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004
    ]
    assert not plain


@pytest.mark.parametrize("service", STORES)
async def test_every_route_knows_who_is_asking(service: str) -> None:
    unguarded = []
    for route in routes(service):
        wanted = {"get_neighbour", "get_neighbour_session"} if "/internal/" in route.path else {get_caller.__name__}
        if not (set(needs(route)) & wanted or PUBLIC.fullmatch(route.path) or route.path.startswith("/health/")):
            unguarded.append(f"{route.methods} {route.path}")
        assert "/internal/" not in route.path or not route.include_in_schema
    assert not unguarded


@pytest.mark.parametrize("service", STORES)
async def test_every_public_route_is_reached_through_the_gateway_and_no_internal_one(service: str) -> None:
    for route in routes(service):
        path = re.sub(r"\{[^}]*\}", "7", route.path)
        found = find_route(normalise(path))
        if route.path.startswith(("/internal/", "/health/")):
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
    for subscriber in worker.broker.subscribers:
        arguments = subscriber._connection_args
        assert subscriber.ack_policy.value == "nack_on_error"
        assert arguments["auto_offset_reset"] == "earliest"
        assert arguments["rebalance_timeout_ms"] == 60_000
        assert arguments["max_poll_interval_ms"] == 300_000
        assert subscriber.group_id.startswith(f"{service}.")
        groups.append(subscriber.group_id)
    assert len(groups) == len(set(groups)), "two members of one group in one event loop"
    topics = {topic.name for subscriber in worker.broker.subscribers for topic in subscriber.topics}
    assert topics <= {event.topic for event in EVENTS}
    await worker.database.close()


def test_only_the_bus_module_makes_subscribers() -> None:
    assert callable(subscribe)
    assert callable(make_broker)
    found = [path for path in ROOT.glob("services/*/src/**/*.py") if ".subscriber(" in path.read_text()]
    assert not found


def settings_names() -> set[str]:
    classes: list[type[BaseSettings]] = [settings_class(service) for service in SERVICES]
    names = {env_name(cls, field) for cls in [*classes, TopicSettings] for field in cls.model_fields}
    return names | TOOLS


def test_the_example_lists_every_setting_and_no_other() -> None:
    text = (ROOT / ".env.example").read_text()
    told = set(re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", text, re.MULTILINE))
    assert told == settings_names()


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
        ("worker", "SMS_PROVIDERS", "pigeon"),
        ("worker", "MMS_PROVIDERS", "pigeon"),
        ("api", "STORAGE_PROVIDER", "attic"),
    ],
)
def test_a_name_that_does_not_exist_ends_the_process_and_is_told(role: str, variable: str, value: str) -> None:
    command = [sys.executable, "-m", "delivery", role]
    ended = subprocess.run(
        command, env={**os.environ, variable: value}, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert variable in ended.stderr
    assert value in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_bad_value_is_named_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from common.settings import load_settings

    monkeypatch.setenv("INTERNAL_TOKEN_SECRET", "short-secret")
    with pytest.raises(SystemExit):
        load_settings(settings_class("delivery"))
    told = capsys.readouterr().err
    assert "INTERNAL_TOKEN_SECRET" in told
    assert "short-secret" not in told
    assert issubclass(settings_class("delivery"), StoreSettings)
