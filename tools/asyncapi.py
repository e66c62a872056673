"""Generate docs/asyncapi.json, the AsyncAPI 3 document of the events, with `python -m tools.asyncapi`.

The payloads come from `common/events.py`, the examples from the samples in tests/architecture/events, and the
consumer groups from the services' workers.
"""

import asyncio
import importlib
import inspect
import json
import os
import re
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from common.events import EVENTS, Event

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs/asyncapi.json"
_SAMPLES = ROOT / "tests/architecture/events"
_STORES = ("contacts", "scheduling", "delivery")
_SCHEMA = "#/components/schemas/{model}"
# The workers are built and never started, so nothing connects to these addresses.
_ENVIRONMENT = {
    "INTERNAL_TOKEN_SECRET": "-" * 32,
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_" + "A" * 32,
    **{f"{service.upper()}_DATABASE_URL": f"postgresql://{service}:-@127.0.0.1:1/-" for service in _STORES},
}


async def consumers() -> dict[str, list[str]]:
    """Return topic → the consumer groups of the services that read it."""
    found: dict[str, list[str]] = {event.topic: [] for event in EVENTS}
    with patch.dict(os.environ, _ENVIRONMENT):
        for service in _STORES:
            settings = importlib.import_module(f"{service}.settings").Settings()
            worker = await importlib.import_module(f"{service}.worker").create_worker(settings)
            for subscriber in worker.bus.broker.subscribers:
                for topic in subscriber.topics:
                    found[topic.name].append(subscriber.group_id)
            await worker.database.close()
    return {topic: sorted(groups) for topic, groups in found.items()}


def key_of(event: type[Event]) -> str:
    """Describe the key of the event's records, by the docstring of the event's `key`. Raises ValueError without one."""
    described = re.fullmatch(r"Return (.+)\.", event.key.__doc__ or "")
    if described is None or event.key is Event.key:
        raise ValueError(
            f"libs/common/src/common/events.py: add `key` to {event.__name__}, with a docstring of one line that says"
            ' whose id it is, such as """Return the schedule\'s id."""'
        )
    return described[1]


def sample_of(event: type[Event]) -> Any:
    """Return the stored sample of the event. Raises ValueError if there is none."""
    file = _SAMPLES / f"{event.topic}.json"
    if not file.exists():
        raise ValueError(
            f"{file.relative_to(ROOT)} does not exist: add a sample of {event.__name__} to"
            " tests/architecture/test_events.py and run that test with UPDATE_EVENTS=1"
        )
    return json.loads(file.read_text())["sample"]


def message(event: type[Event], schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the message object of an event. The schemas that its payload needs are added to `schemas`."""
    schema = event.model_json_schema(ref_template=_SCHEMA)
    schemas |= schema.pop("$defs", {})
    schemas[event.__name__] = schema
    return {
        "name": event.__name__,
        "title": event.__name__,
        "summary": inspect.cleandoc(event.__doc__ or ""),
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "properties": {"request_id": {"type": "string", "description": "id of the request that caused the event"}},
        },
        "payload": {"$ref": _SCHEMA.format(model=event.__name__)},
        "bindings": {"kafka": {"key": {"type": "string", "description": key_of(event)}}},
        "examples": [{"name": "sample", "payload": sample_of(event)}],
    }


def build() -> dict[str, Any]:
    """Return the whole document."""
    schemas: dict[str, Any] = {}
    readers = asyncio.run(consumers())
    channels, operations, messages = {}, {}, {}
    for event in EVENTS:
        name, producer = event.__name__, event.topic.split(".")[0]
        messages[name] = message(event, schemas)
        channels[name] = {
            "address": event.topic,
            "messages": {name: {"$ref": f"#/components/messages/{name}"}},
            "bindings": {"kafka": {"topic": event.topic}},
        }
        channel = {"$ref": f"#/channels/{name}"}
        operations[f"{producer}.publish{name}"] = {
            "action": "send",
            "channel": channel,
            "summary": f"{producer} publishes the event through its outbox.",
        }
        for group in readers[event.topic]:
            operations[f"{group}.{name}"] = {
                "action": "receive",
                "channel": channel,
                "summary": f"{group.split('.')[0]} reads the event.",
                "bindings": {"kafka": {"groupId": {"type": "string", "const": group}}},
            }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Cooee events",
            "version": "1.0.0",
            "description": "Events are delivered at least once, and in order per key."
            " A `.v1` topic only gains optional fields. See docs/events.md.",
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": {"host": "kafka:9092", "protocol": "kafka"}},
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": dict(sorted(schemas.items()))},
    }


if __name__ == "__main__":
    try:
        document = build()
    except ValueError as error:
        sys.exit(str(error))
    DOCUMENT.write_text(json.dumps(document, indent=2) + "\n")
    print(DOCUMENT.relative_to(ROOT))
