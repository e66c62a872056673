"""The commands find a running embedded stack."""

import json
import os
from pathlib import Path

import pytest

from tools.embedded.environment import stack_environment
from tools.operator.stack import Stack


def test_running_stack_is_used_with_its_ports_and_providers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack_environment(tmp_path, {})  # creates the secrets
    worker = {"port": 4, "sms": "aws,twilio", "mms": "twilio"}
    running = {"postgres": {"port": 1}, "broker": {"port": 2}, "handset": {"port": 3}, "delivery worker": worker}
    (tmp_path / "stack.json").write_text(json.dumps(running))
    monkeypatch.setattr(os, "environ", {"COOEE_HOME": str(tmp_path), "PATH": os.environ["PATH"]})
    environment = Stack.from_environment().environment
    assert environment["DATABASE_URL"] == "postgresql://127.0.0.1:1/cooee"
    assert environment["KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:2"
    assert environment["TWILIO_BASE_URL"] == "http://127.0.0.1:3/twilio"
    assert (environment["SMS_PROVIDERS"], environment["MMS_PROVIDERS"]) == ("aws,twilio", "twilio")
    assert os.environ["AWS_ACCESS_KEY_ID"] == "embedded"
