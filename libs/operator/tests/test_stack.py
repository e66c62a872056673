"""The commands find a running embedded stack."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from cooee.stack import Stack
from tools.embedded.environment import stack_environment


def test_running_stack_is_used_with_its_ports_and_providers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack_environment(tmp_path, {})  # creates the secrets
    worker = {"port": 4, "sms": "aws,twilio", "mms": "twilio"}
    running = {
        "gateway": {"port": 5},
        "postgres": {"port": 1},
        "broker": {"port": 2},
        "handset": {"port": 3},
        "delivery worker": worker,
    }
    (tmp_path / "stack.json").write_text(json.dumps(running))
    monkeypatch.setattr(os, "environ", {"COOEE_HOME": str(tmp_path), "PATH": os.environ["PATH"]})
    stack = Stack.from_environment()
    environment = stack.environment
    assert stack.gateway_url == "http://127.0.0.1:5"
    assert environment["DATABASE_URL"] == "postgresql://127.0.0.1:1/cooee"
    assert environment["KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:2"
    assert environment["TWILIO_BASE_URL"] == "http://127.0.0.1:3/twilio"
    assert (environment["SMS_PROVIDERS"], environment["MMS_PROVIDERS"]) == ("aws,twilio", "twilio")
    assert os.environ["AWS_ACCESS_KEY_ID"] == "embedded"


def test_variables_of_the_shell_do_not_reach_the_commands_while_a_stack_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"COOEE_HOME": str(tmp_path), "MOBILE_MESSAGE_BASE_URL": "http://127.0.0.1:3/mobile_message"}
    worker = subprocess.Popen(
        [sys.executable, "-c", "print('started', flush=True); input()"],
        env=own,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "started\n"
    (tmp_path / "stack.json").write_text(json.dumps({"delivery worker": {"pid": worker.pid}}))
    databases = {
        f"{service}_DATABASE_URL": "postgresql://elsewhere/" for service in ("CONTACTS", "SCHEDULING", "DELIVERY")
    }
    shell = {"MOBILE_MESSAGE_BASE_URL": "http://elsewhere", "MOBILE_MESSAGE_PASSWORD": "other", **databases}
    monkeypatch.setattr(os, "environ", {"COOEE_HOME": str(tmp_path), **shell})
    stack = Stack.from_environment()
    assert stack.environment == os.environ == own
    assert stack.description == f"the running stack in {tmp_path}"
    worker.communicate("\n")
    monkeypatch.setattr(os, "environ", {"COOEE_HOME": str(tmp_path), **shell})
    stack = Stack.from_environment()  # the file of a killed stack
    assert (stack.environment["MOBILE_MESSAGE_PASSWORD"], stack.description) == ("other", "the environment variables")


async def test_sessions_share_connections_within_the_block_only(urls: dict[str, str]) -> None:
    stack = Stack({f"{service.upper()}_DATABASE_URL": url for service, url in urls.items()})

    async def backend(session: AsyncSession) -> int:
        return int(await session.scalar(text("SELECT pg_backend_pid()")) or 0)

    async def connection() -> int:
        async with stack.session("contacts") as session:
            return await backend(session)

    assert await connection() != await connection()
    async with stack.shared_connections():
        assert await connection() == await connection()
        async with (
            stack.session("contacts") as first,
            stack.session("contacts") as second,
            stack.session("contacts") as third,
        ):
            assert len({await backend(session) for session in (first, second, third)}) == 3
    assert await connection() != await connection()


async def test_sessions_of_commands_plan_each_statement_for_its_values(urls: dict[str, str]) -> None:
    stack = Stack({f"{service.upper()}_DATABASE_URL": url for service, url in urls.items()})
    async with stack.shared_connections(), stack.session("contacts") as session:
        assert await session.scalar(text("SHOW plan_cache_mode")) == "force_custom_plan"
