"""Errors at Sentry: a process reports its log lines of level error and its last exception, without private values."""

import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from common import error_reports
from common.settings import CommonSettings, InvalidSetting

PHONE, TEXT = "0491 570 006", "Zebra crossing ahead"
_PROGRAM = f"""
import logging, sys
import structlog
from common.cli import _prepare
from common.settings import CommonSettings

CommonSettings.service = "delivery"
_prepare(CommonSettings(), "worker")
log = structlog.get_logger()
phone, text = {PHONE!r}, {TEXT!r}

def fail(body):
    secret_of_the_frame = body
    raise ValueError(f"cannot send {{body}} to {{phone}}")

log.warning("provider unavailable", error=text)
try:
    fail(text)
except ValueError as error:
    log.error("loop failed", loop="send_queued", phone=phone, text=text, error=repr(error))
log.error("event too large", topic="topic.v1", outbox_id=7, reason=text)
log.error("submission failed for " + phone)
logging.getLogger("asyncio").error("Task exception was never retrieved\\n" + text)
fail(text)
"""


@dataclass
class Reports:
    """What arrived at the address of a Sentry project."""

    dsn: str = ""
    bodies: list[bytes] = field(default_factory=list)

    def events(self) -> list[dict[str, Any]]:
        """Return the reports of all envelopes."""
        lines = [line for body in self.bodies for line in body.splitlines()]
        items = [json.loads(line) for line in lines if line.startswith(b"{")]
        return [item for item in items if "platform" in item]


@pytest.fixture
def reports() -> Iterator[Reports]:
    """Run a server that takes envelopes."""
    stored = Reports()

    class Project(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Encoding"] == "gzip"
            stored.bodies.append(gzip.decompress(body))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Project) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        stored.dsn = f"http://public@127.0.0.1:{server.server_address[1]}/1"
        yield stored
        server.shutdown()
        thread.join(20)


def run(dsn: str) -> subprocess.CompletedProcess[str]:
    environment = {"PORT": "1", "INTERNAL_TOKEN_SECRET": "s" * 32, "LOG_FORMAT": "json", "SENTRY_DSN": dsn}
    program = [sys.executable, "-c", _PROGRAM]
    return subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_reports_have_types_and_places_but_no_phones_and_texts(reports: Reports) -> None:
    ended = run(reports.dsn)
    assert ended.returncode == 1
    assert "loop failed" in ended.stdout, ended.stderr
    found = {one.get("logentry", {}).get("message", "exit"): one for one in reports.events()}
    phrases = {"loop failed", "event too large", "submission failed for [phone]", "Task exception was never retrieved"}
    assert set(found) == {*phrases, "exit"}
    for phrase in ("loop failed", "exit"):
        (error,) = found[phrase]["exception"]["values"]
        assert (error["type"], error["value"]) == ("ValueError", "")
        assert error["stacktrace"]["frames"][-1]["function"] == "fail"
    assert "exception" not in found["event too large"]
    assert found["loop failed"]["extra"] == {"loop": "send_queued"}
    assert found["event too large"]["extra"] == {"topic": "topic.v1", "outbox_id": 7}
    assert all(one["tags"] == {"service": "delivery", "role": "worker"} for one in found.values())
    everything = b"".join(reports.bodies).decode()
    for private in (PHONE, "570 006", "Zebra", "secret_of_the_frame", "sys.argv"):
        assert private not in everything, private


def test_without_an_address_nothing_is_reported(reports: Reports) -> None:
    ended = run("")
    assert "loop failed" in ended.stdout
    assert not reports.bodies


def test_wrong_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CommonSettings, "service", "sample", raising=False)
    settings = CommonSettings(port=1, internal_token_secret="s" * 32, sentry_dsn="sentry.example.com")
    with pytest.raises(InvalidSetting, match="SENTRY_DSN"):
        error_reports.start(settings, "api")
