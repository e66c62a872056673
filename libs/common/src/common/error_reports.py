"""Report errors to Sentry, if `SENTRY_DSN` is set. Otherwise Sentry's library is not imported.

A report is a log line of level error, an error of a library, or the exception that ended a process. It has the types of
exceptions and where they were raised. It has no messages of exceptions, values of variables or requests: they may have
phones, texts and tokens.
"""

import logging
import sys
from typing import Any

import structlog

from common.logs import redact, redact_text
from common.settings import CommonSettings, InvalidSetting

_LEVELS = frozenset({"error", "exception", "critical"})
_FIELDS = frozenset(
    {"loop", "topic", "group", "provider", "failure_category", "failures", "stuck", "ended", "step", "upstream"}
    | {"partition", "offset", "outbox_id", "event_id", "kind", "status", "checks", "count", "request_id"}
)
_PARTS = frozenset(
    {"event_id", "timestamp", "platform", "level", "logger", "release", "environment", "server_name", "sdk"}
    | {"modules", "contexts", "tags", "exception", "logentry", "extra", "fingerprint"}
)


def start(settings: CommonSettings, role: str) -> structlog.typing.Processor | None:
    """Begin to report errors, and return the processor of log lines that reports them. Return None without Sentry.

    Raises InvalidSetting.
    """
    if settings.sentry_dsn is None:
        return None
    import sentry_sdk  # noqa: PLC0415  # only this case needs Sentry
    from sentry_sdk.integrations.atexit import AtexitIntegration  # noqa: PLC0415  # as above
    from sentry_sdk.integrations.excepthook import ExcepthookIntegration  # noqa: PLC0415  # as above
    from sentry_sdk.integrations.logging import LoggingIntegration  # noqa: PLC0415  # as above
    from sentry_sdk.utils import BadDsn  # noqa: PLC0415  # as above

    try:
        sentry_sdk.init(
            dsn=settings.sentry_dsn.get_secret_value(),
            # The default integrations would read requests and wrap the libraries that every request uses.
            default_integrations=False,
            auto_enabling_integrations=False,
            integrations=[
                AtexitIntegration(callback=lambda pending, timeout: None),
                ExcepthookIntegration(),
                LoggingIntegration(level=None, event_level=logging.ERROR),
            ],
            # `send_default_pii` is off by default, and naming it is deprecated.
            include_local_variables=False,
            max_request_body_size="never",
            max_breadcrumbs=0,
            auto_session_tracking=False,
            before_send=_scrub_event,
        )
    except BadDsn:
        raise InvalidSetting("SENTRY_DSN: Enter the address that Sentry shows for the project.") from None
    sentry_sdk.get_global_scope().set_tags({"service": settings.service, "role": role})
    return _report


def _report(_: Any, method: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Report a log line of level error. The line itself does not change."""
    if method not in _LEVELS:
        return fields
    import sentry_sdk  # noqa: PLC0415  # only this case needs Sentry
    from sentry_sdk.utils import event_from_exception  # noqa: PLC0415  # as above

    error = fields.get("exc_info")
    if not isinstance(error, BaseException):
        error = sys.exception()
    report, hint = event_from_exception(error, sentry_sdk.get_client().options) if error else ({}, {})
    report |= {"level": "error", "logger": "cooee", "logentry": {"message": str(fields["event"])}, "extra": {**fields}}
    sentry_sdk.capture_event(report, hint)
    return fields


def _scrub_event(report: Any, _: Any) -> Any:
    """Return a report as it is sent, or None for a failed export of traces, which repeats every few seconds."""
    return None if str(report.get("logger")).startswith("opentelemetry") else scrub(report)


def scrub(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report with nothing but the phrase of the log line, known fields, and the types and places of errors."""
    scrubbed = {name: part for name, part in report.items() if name in _PARTS}
    line = report.get("logentry") or {}
    if line.get("message"):  # the text of another library may have values in its further lines
        scrubbed["logentry"] = {"message": line["message"].partition("\n")[0]}
    extra = {name: value for name, value in report.get("extra", {}).items() if name in _FIELDS}
    scrubbed["extra"] = redact(None, "", extra)
    for error in report.get("exception", {}).get("values", ()):
        error["value"] = ""
        error.pop("mechanism", None)
        for frame in (error.get("stacktrace") or {}).get("frames", ()):
            frame.pop("vars", None)
    redacted: dict[str, Any] = _redact(scrubbed)
    return redacted


def _redact(part: Any) -> Any:
    """Return a part of a report without phones."""
    if isinstance(part, str):
        return redact_text(part)
    if isinstance(part, dict):
        return {name: _redact(value) for name, value in part.items()}
    return [_redact(one) for one in part] if isinstance(part, list | tuple) else part
