"""A state is logged when it begins and when it ends, and not while it lasts."""

import asyncio
import logging
from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import capture_logs

from common import logs
from common.errors import Unavailable
from common.logs import BrokerLog, StateLog
from common.loops import Loop


@pytest.fixture
def lines() -> Iterator[list[structlog.typing.EventDict]]:
    """Collect the logged lines."""
    with capture_logs() as captured:
        yield captured


def events(lines: list[structlog.typing.EventDict]) -> list[str]:
    """Return the phrases of the lines."""
    return [line["event"] for line in lines]


def test_lasting_state_has_two_lines(lines: list[structlog.typing.EventDict]) -> None:
    state = StateLog("store full", "store has space")
    for active in (False, True, True, True, False, False, True):
        state.update(active, free=0)
    assert events(lines) == ["store full", "store has space", "store full"]
    assert lines[0]["free"] == 0


async def test_failing_loop_logs_each_kind_of_error_once_and_its_recovery(
    lines: list[structlog.typing.EventDict],
) -> None:
    stopping = asyncio.Event()
    errors: list[Exception] = [OSError("refused"), OSError("refused"), ValueError("starting"), ValueError("starting")]

    async def step() -> bool:
        if errors:
            raise errors.pop(0)
        stopping.set()
        return False

    await Loop("work", step, 0.0).run(stopping)
    assert events(lines) == ["loop failed", "loop failed", "loop recovered"]
    assert [line["error"] for line in lines[:2]] == ["OSError('refused')", "ValueError('starting')"]
    assert lines[2]["failures"] == 4


async def test_failed_loop_names_the_cause_of_what_is_not_available(lines: list[structlog.typing.EventDict]) -> None:
    stopping = asyncio.Event()

    async def step() -> bool:
        stopping.set()
        try:
            raise ConnectionRefusedError(111, "refused")
        except OSError:
            raise Unavailable from None

    await Loop("work", step, 0.0).run(stopping)
    assert lines[0]["error"] == "ConnectionRefusedError(111, 'refused')"


def record(message: str, name: str = "aiokafka.conn") -> logging.LogRecord:
    """Return a record of the standard library."""
    return logging.LogRecord(name, logging.ERROR, __file__, 1, message, (), None)


def test_outage_of_the_broker_has_two_lines(
    lines: list[structlog.typing.EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(logs.time, "monotonic", lambda: now)
    broker = BrokerLog()
    refused = "Unable connect to node with id 1: [Errno 111] Connection refused"
    passed = [broker.filter(record(message)) for message in (refused, "Unable to update metadata from [1]", refused)]
    assert passed == [False, False, False]
    now += 5
    broker.report_end()
    assert events(lines) == ["broker unavailable"]
    assert lines[0]["error"] == refused
    now += 6
    broker.report_end()
    broker.report_end()
    assert events(lines) == ["broker unavailable", "broker available"]
    assert lines[1]["after_s"] == 11, "the time between the two lines"
    assert not broker.filter(record(refused))
    now += 61  # a process that reports no end
    assert not broker.filter(record(refused))
    assert events(lines)[2:] == ["broker unavailable", "broker unavailable"]


def test_other_lines_of_libraries_pass(lines: list[structlog.typing.EventDict]) -> None:
    broker = BrokerLog()
    assert broker.filter(record("Topic x is not authorised"))
    assert broker.filter(record("Unable connect to the proxy", name="other"))
    assert lines == []
