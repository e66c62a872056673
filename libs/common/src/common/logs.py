"""Structured logs on standard output: JSON lines, or readable lines in a terminal. Phones and texts are redacted."""

import contextlib
import logging
import re
import sys
import time
from typing import Any

import structlog

log = structlog.get_logger()

_PRIVATE = frozenset({"phone", "to", "recipient", "text", "message_text", "subject", "email", "body", "token", "value"})
_PHONE = re.compile(r"(?<![0-9A-Za-z])(?:\+?61|0)[ ()-]?4(?:[ ()-]?[0-9]){8}(?![0-9])")
_QUIET_S = 10.0
_FORGET_S = 60.0
# The Kafka client logs each failed try, several times a second for each consumer, while the broker is unavailable.
_CONNECTION = re.compile(
    r"Unable connect to|Unable to (update|request) metadata|Failed fetch messages"
    r"|Heartbeat|LeaveGroup|marking coordinator dead|Group Coordinator Request failed|OffsetCommit failed"
)


def redact(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Replace private values by their names, and Australian mobile numbers in every string."""
    for name, value in event.items():
        if name in _PRIVATE:
            event[name] = "[redacted]"
        elif isinstance(value, str):
            event[name] = redact_text(value)
    return event


def redact_text(text: str) -> str:
    """Replace Australian mobile numbers in a text."""
    return _PHONE.sub("[phone]", text)


class _StandardOutput:
    """Write lines. A closed standard output must not break a request, so its errors are ignored."""

    def __init__(self, *_: object) -> None:
        pass

    def msg(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    debug = info = warning = error = critical = msg


class StateLog:
    """A state that is logged as a warning with the first phrase when it begins, and with the second when it ends."""

    def __init__(self, begins: str, ends: str) -> None:
        self._begins, self._ends = begins, ends
        self._since: float | None = None

    def update(self, active: bool, **fields: Any) -> None:
        """Log a change of the state. `fields` describe its beginning."""
        if active and self._since is None:
            self._since = time.monotonic()
            log.warning(self._begins, **fields)
        elif not active and self._since is not None:
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
        """Log that the broker is available again, when there was no error for 10 s. `after_s` includes these."""
        if self._since is not None and time.monotonic() - self._last >= _QUIET_S:
            log.warning("broker available", after_s=round(time.monotonic() - self._since))
            self._since = None


broker_log = BrokerLog()


def configure_logs(
    service: str, role: str, log_format: str, level: str, *, report: structlog.typing.Processor | None = None
) -> None:
    """Send the logs of this process and of its libraries through one chain of processors.

    `report` gets our own lines, before they are redacted.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stdout.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    last: list[structlog.typing.Processor] = [_add_names(service, role)]
    if console:
        last += [redact, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        last += [structlog.processors.format_exc_info, redact, structlog.processors.JSONRenderer()]
    # Our own lines bypass the standard library, which costs three times as much for each request.
    structlog.configure(
        processors=[*shared, *([report] if report else []), *last],
        logger_factory=_StandardOutput,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    handler.addFilter(broker_log)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    handler.addFilter(_is_informative)
    for noisy in (
        "uvicorn.access",
        "uvicorn.error",
        "aiokafka",
        "faststream",
        "alembic.runtime.plugins",
        "aiohttp.access",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("aiokafka.consumer.group_coordinator").setLevel(logging.ERROR)


def _is_informative(record: logging.LogRecord) -> bool:
    """Return False for the two lines in which Alembic describes the kind of database."""
    return not record.getMessage().startswith(("Context impl ", "Will assume "))


def _add_names(service: str, role: str) -> structlog.typing.Processor:
    def add(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"], event["role"] = service, role
        return event

    return add
