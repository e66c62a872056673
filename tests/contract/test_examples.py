"""The example consumers of docs/events.md end with the newest state of each message."""

import asyncio
import os
import shutil
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from common.events import MessageDelayed, MessageDelivered, MessageFailed, MessageSent, MessageState
from tools.npm import node, npm

NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


def state(
    kind: type[MessageState], schedule_id: int, dispatch_number: int, version: int, **fields: Any
) -> MessageState:
    """Return an event about a message."""
    return kind(
        organisation_id="org_example",
        message_id=schedule_id * 10 + dispatch_number,
        schedule_id=schedule_id,
        dispatch_number=dispatch_number,
        version=version,
        attempts=1,
        **fields,
    )


DELAYED = {"next_attempt_at": NOW, "failure_category": "provider_unavailable", "error": "No provider answered."}
EXPIRED = {"failure_category": "expired", "error": "Too late."}
BLOCKED = {"failure_category": "blocked", "error": "Blocked."}
# The events of each topic are read in this order. There is no order between the topics.
EVENTS = [
    state(MessageDelayed, 1, 1, 2, **DELAYED),
    state(MessageSent, 1, 1, 3, sent_time=NOW),
    state(MessageDelivered, 1, 1, 4, delivered_time=NOW),
    state(MessageSent, 2, 2, 2, sent_time=NOW),
    state(MessageFailed, 2, 1, 9, **EXPIRED),
    state(MessageSent, 3, 1, 2, sent_time=NOW),
    state(MessageFailed, 3, 1, 3, **BLOCKED),
    state(MessageFailed, 3, 1, 1, **EXPIRED),
    state(MessageFailed, 3, 1, 3, **BLOCKED),
    state(MessageDelayed, 4, 1, 2, **DELAYED),
]
# The last event of each topic. When a consumer has printed these, it has read everything.
ENDS = [
    state(MessageDelayed, 96, 1, 1, **DELAYED),
    state(MessageSent, 97, 1, 1, sent_time=NOW),
    state(MessageDelivered, 98, 1, 1, delivered_time=NOW),
    state(MessageFailed, 99, 1, 1, **BLOCKED),
]
DELAY = "delayed until 2026-03-01T09:00:00Z: provider_unavailable"
LAST = {1: "delivered", 2: "sent", 3: "failed: blocked", 4: DELAY}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory, repository_root: Path) -> Path:
    """Install the packages of the example in Node beside copies of it and of the contract, and return its folder."""
    docs = tmp_path_factory.mktemp("node") / "docs"
    example = docs / "examples" / "listen-node"
    example.mkdir(parents=True)
    shutil.copy(repository_root / "docs" / "asyncapi.json", docs)
    for name in ("listen.js", "package.json", "package-lock.json"):
        shutil.copy(repository_root / "docs" / "examples" / "listen-node" / name, example)
    command = [*npm(), "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    result = subprocess.run(command, cwd=example, check=False, capture_output=True, text=True, timeout=300)
    if result.returncode:
        pytest.skip(f"npm cannot install the packages of the example: {result.stderr[-300:]}")
    return example


async def publish(servers: str, records: Sequence[tuple[str, bytes]]) -> None:
    """Publish records in this order."""
    producer = AIOKafkaProducer(bootstrap_servers=servers)
    await producer.start()
    try:
        for topic, value in records:
            await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()


def as_records(events: Sequence[MessageState]) -> list[tuple[str, bytes]]:
    """Return events as records."""
    return [(event.topic, event.model_dump_json().encode()) for event in events]


async def printed_states(command: Sequence[str], servers: str, error: str = "") -> tuple[dict[int, list[str]], str]:
    """Run an example until it has read everything. Return schedule → its printed states, and the error output.

    `error` is a text of the error output to wait for: partitions are read in any order.
    """
    process = await asyncio.create_subprocess_exec(
        *command, stdout=PIPE, stderr=PIPE, env=os.environ | {"KAFKA_BOOTSTRAP_SERVERS": servers}
    )
    assert process.stdout is not None
    assert process.stderr is not None
    states: dict[int, list[str]] = defaultdict(list)
    errors = ""
    try:
        async with asyncio.timeout(60):
            while not all(event.schedule_id in states for event in ENDS):
                line = (await process.stdout.readline()).decode()
                assert line, (await process.communicate())[1].decode()
                schedule, _, printed = line.partition(" schedule ")[2].strip().partition(": ")
                states[int(schedule)].append(printed)
            while error not in errors:
                line = (await process.stderr.readline()).decode()
                assert line, errors
                errors += line
    finally:
        if process.returncode is None:
            process.terminate()
    return states, errors + (await process.communicate())[1].decode()


async def test_python_example_ends_with_the_newest_state(kafka_servers: str, repository_root: Path) -> None:
    await publish(kafka_servers, as_records([*EVENTS, *ENDS]))
    command = [sys.executable, str(repository_root / "docs" / "examples" / "listen.py"), "--group", "example.python"]
    states, _ = await printed_states(command, kafka_servers)
    assert {schedule: states[schedule][-1] for schedule in LAST} == LAST
    assert states[3].count("failed: blocked") == 1


async def test_node_example_ends_with_the_newest_state_and_names_what_breaks_the_contract(
    kafka_servers: str, packages: Path
) -> None:
    broken = (MessageSent.topic, b'{"schedule_id": "five"}')
    await publish(kafka_servers, [broken, *as_records([*EVENTS, *ENDS])])
    command = [node(), str(packages / "listen.js")]
    states, errors = await printed_states(command, kafka_servers, error="/schedule_id must be integer")
    assert {schedule: states[schedule][-1] for schedule in LAST} == LAST
    assert states[3].count("failed: blocked") == 1
    assert f"{MessageSent.topic} 0/" in errors
    assert "/schedule_id must be integer" in errors
