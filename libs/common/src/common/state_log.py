"""Log a state when it begins and when it ends, and not while it lasts."""

import logging
import re
import time
from typing import Any

import structlog

log = structlog.get_logger()

_QUIET_S = 10.0
_FORGET_S = 60.0
# The Kafka client logs each failed try, several times a second for each consumer, while the broker is unavailable.
_CONNECTION = re.compile(
    r"Unable connect to|Unable to (update|request) metadata|Failed fetch messages"
    r"|Heartbeat|LeaveGroup|marking coordinator dead|Group Coordinator Request failed|OffsetCommit failed"
)


class StateLog:
    """A state that is logged as a warning with the first phrase when it begins, and with the second when it ends."""

    def __init__(self, begins: str, ends: str) -> None:
        self._begins, self._ends = begins, ends
        self._since: float | None = None

    def update(self, holds: bool, **fields: Any) -> None:
        """Log a change of the state. `fields` describe its beginning."""
        if holds and self._since is None:
            self._since = time.monotonic()
            log.warning(self._begins, **fields)
        elif not holds and self._since is not None:
            log.warning(self._ends, after_s=round(time.monotonic() - self._since))
            self._since = None


class BrokerLog(logging.Filter):
    """Replaces the connection errors of the Kafka client by one line when the broker becomes unavailable.

    `report_end` logs that it is available again. Other lines of the client pass. A process that does not call
    `report_end` logs the next outage when there was no error for a minute.
    """

    def __init__(self) -> None:
        super().__init__("aiokafka")
        self._since: float | None = None
        self._last = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be logged."""
        if not super().filter(record) or not _CONNECTION.search(record.getMessage()):
            return True
        now = time.monotonic()
        if self._since is None or now - self._last > _FORGET_S:
            self._since = now
            log.error("broker unavailable", error=record.getMessage()[:300])
        self._last = now
        return False

    def report_end(self) -> None:
        """Log that the broker is available again, when there was no error for 10 s."""
        if self._since is not None and time.monotonic() - self._last >= _QUIET_S:
            log.warning("broker available", after_s=round(self._last - self._since))
            self._since = None


broker_log = BrokerLog()
