"""The events: within `.v1` only optional fields are added, and old samples stay readable.

`UPDATE_EVENTS=1 pytest tests/architecture/test_events.py` writes the schema of a new event or a new optional field.
"""

import ast
import asyncio
import json
import os
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

import pytest
from pydantic import BaseModel

from common.events import (
    EVENTS,
    ContactChanged,
    ContactState,
    Event,
    MessageDelayed,
    MessageDelivered,
    MessageFailed,
    MessageReceived,
    MessageSent,
    OptOutChanged,
    OrganisationChanged,
    ScheduleDue,
    SettingsChanged,
)
from tools.asyncapi import DOCUMENT, build, consumers, key_of, sample_of

from .conftest import ROOT, SERVICES, sources

FOLDER = ROOT / "tests/architecture/events"
AT = datetime(2026, 4, 4, 16, 30, tzinfo=UTC)
BASE: dict[str, Any] = {
    "event_id": UUID(int=7),
    "occurred_at": AT,
    "organisation_id": "org_7",
    "request_id": "req-1",
}
STATE: dict[str, Any] = {
    **BASE,
    "message_id": 9,
    "schedule_id": 5,
    "batch_id": 4,
    "dispatch_number": 1,
    "version": 3,
    "attempts": 1,
    "provider": "mobile_message",
    "provider_message_id": "6a1f7f0e",
}
SAMPLES: dict[type[Event], Event] = {
    ScheduleDue: ScheduleDue(
        **BASE,
        schedule_id=5,
        dispatch_number=1,
        phone="+61491570006",
        text="Hi Ana",
        format="sms",
        parts=1,
        scheduled_time=AT,
        lane="single",
    ),
    MessageSent: MessageSent(**STATE, sent_time=AT),
    MessageFailed: MessageFailed(**STATE, failure_category="invalid_number", error="The number does not exist."),
    MessageDelayed: MessageDelayed(
        **STATE, next_attempt_at=AT, failure_category="provider_unavailable", error="The provider could not be reached."
    ),
    MessageDelivered: MessageDelivered(**STATE, sent_time=AT, delivered_time=AT),
    MessageReceived: MessageReceived(
        **BASE, message_id=10, phone="+61491570006", to="+61491570110", text="Stop", received_at=AT, keyword="stop"
    ),
    OptOutChanged: OptOutChanged(
        **BASE, phone="+61491570006", opted_out=True, changed_at=AT, source="reply", message_id=10, version=1
    ),
    ContactChanged: ContactChanged(
        **BASE,
        contacts=(
            ContactState(
                contact_id=3,
                version=2,
                phone="+61491570006",
                fields={"first_name": "Ana"},
                is_active=True,
                opt_out=False,
            ),
        ),
    ),
    OrganisationChanged: OrganisationChanged(**BASE, closed=True, version=2),
    SettingsChanged: SettingsChanged(**BASE, timezone="Australia/Adelaide", version=2),
}
ids = [event.__name__ for event in EVENTS]


def compatible(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return what breaks a reader or writer of the old schema."""
    problems = [f"{n}: removed or changed" for n, p in old["properties"].items() if new["properties"].get(n) != p]
    problems += [f"{n}: now required" for n in set(new.get("required", [])) - set(old.get("required", []))]
    for name, definition in old.get("$defs", {}).items():
        if "properties" in definition:
            problems += [f"{name}.{p}" for p in compatible(definition, new.get("$defs", {})[name])]
    return problems


@pytest.mark.parametrize("event", EVENTS, ids=ids)
def test_the_schema_only_grows_by_optional_fields(event: type[Event]) -> None:
    file = FOLDER / f"{event.topic}.json"
    schema = json.loads(json.dumps(event.model_json_schema()))
    if os.environ.get("UPDATE_EVENTS"):
        if file.exists():
            assert not compatible(json.loads(file.read_text())["schema"], schema)
        sample = json.loads(SAMPLES[event].model_dump_json())
        file.write_text(json.dumps({"schema": schema, "sample": sample}, indent=1, sort_keys=True) + "\n")
    stored = json.loads(file.read_text())
    assert not compatible(stored["schema"], schema)
    assert schema == stored["schema"], "a new optional field: write the schema again with UPDATE_EVENTS=1"
    event.model_validate_json(json.dumps({**stored["sample"], "a_later_field": 1}))


@pytest.mark.parametrize("event", EVENTS, ids=ids)
def test_an_event_is_frozen_and_its_topic_follows_the_rule(event: type[Event]) -> None:
    name = "".join("-" + c.lower() if c.isupper() else c for c in event.__name__).strip("-")
    assert event.topic.endswith(f".{name}.v1")
    assert event.topic.split(".")[0] in SERVICES
    assert event.model_config.get("frozen")
    assert isinstance(SAMPLES[event], BaseModel)
    assert len(SAMPLES[event].key()) > 0


@pytest.fixture(scope="module")
def readers() -> dict[str, set[str]]:
    """Return topic → the services that subscribe to it, by the workers as they run."""
    return {topic: {group.split(".")[0] for group in groups} for topic, groups in asyncio.run(consumers()).items()}


@pytest.mark.parametrize("event", EVENTS, ids=ids)
def test_an_event_has_one_producer(event: type[Event]) -> None:
    makes = set()
    for path in sources():
        if "services" not in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == event.__name__:
                makes.add(path.relative_to(ROOT / "services").parts[0])
    assert makes == {event.topic.split(".")[0]}


@pytest.mark.parametrize("event", EVENTS, ids=ids)
def test_an_event_has_a_subscriber_or_is_public(event: type[Event], readers: dict[str, set[str]]) -> None:
    wanted = "add `bus.subscribe` to the worker.py of a consumer, or set `public = True`"
    assert bool(readers[event.topic]) != event.public, wanted


def test_the_asyncapi_document_matches_the_code() -> None:
    assert json.loads(DOCUMENT.read_text()) == build(), "run `make docs`"


def test_an_event_without_a_described_key_is_named() -> None:
    class OrderPlaced(Event):
        topic: ClassVar[str] = "scheduling.order-placed.v1"

    class OrderPaid(OrderPlaced):
        def key(self) -> str:
            return "7"

    for event in (OrderPlaced, OrderPaid):
        with pytest.raises(ValueError, match=f"add `key` to {event.__name__}, with a docstring"):
            key_of(event)
        with pytest.raises(ValueError, match=f"add a sample of {event.__name__}"):
            sample_of(event)


@pytest.mark.parametrize("event", EVENTS, ids=ids)
def test_the_events_page_names_every_topic_and_its_consumers(event: type[Event], readers: dict[str, set[str]]) -> None:
    (row,) = (line for line in (ROOT / "docs/events.md").read_text().splitlines() if f"| `{event.topic}` |" in line)
    named = row.strip("| ").split("|")[-1]
    assert {service for service in SERVICES if service in named} == readers[event.topic]


@pytest.mark.parametrize("event", EVENTS, ids=ids)
def test_the_readme_of_each_producer_and_consumer_has_the_event(
    event: type[Event], readers: dict[str, set[str]]
) -> None:
    directions = {event.topic.split(".")[0]: "out", **dict.fromkeys(readers[event.topic], "in")}
    for service, direction in directions.items():
        lines = (ROOT / f"services/{service}/README.md").read_text().splitlines()
        rows = [line for line in lines if line.startswith(f"| {direction} |")]
        assert any(f"`{name}`" in row for row in rows for name in (event.topic, event.__name__)), service
