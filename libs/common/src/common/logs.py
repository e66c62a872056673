"""Structured logs on standard output: JSON lines, or readable lines in a terminal. Phones and texts are redacted."""

import contextlib
import logging
import re
import sys
from typing import Any

import structlog

from common.state_log import broker_log

_PRIVATE = frozenset({"phone", "to", "recipient", "text", "message_text", "subject", "email", "body", "token", "value"})
_PHONE = re.compile(r"(?<![0-9A-Za-z])(?:\+?61|0)[ ()-]?4(?:[ ()-]?[0-9]){8}(?![0-9])")


def redact(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Replace private values by their names, and Australian mobile numbers in every string."""
    for name, value in event.items():
        if name in _PRIVATE:
            event[name] = "[redacted]"
        elif isinstance(value, str):
            event[name] = _PHONE.sub("[phone]", value)
    return event


class _StandardOutput:
    """Write lines. A closed standard output must not break a request, so its errors are ignored."""

    def __init__(self, *_: object) -> None:
        pass

    def msg(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    debug = info = warning = error = critical = msg


def configure_logs(service: str, role: str, log_format: str, level: str) -> None:
    """Send the logs of this process and of its libraries through one chain of processors."""
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
        processors=[*shared, *last],
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
