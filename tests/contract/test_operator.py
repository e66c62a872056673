"""`cooee` finds a running stack by its folder alone, and says whether the stack works."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ClientOf
from tools.embedded.environment import STORES
from tools.embedded.supervisor import Stack

pytestmark = pytest.mark.stack

# `make setup` installs it beside the Python of the environment.
Cooee = Callable[..., Awaitable[tuple[int | None, Any]]]
COOEE = Path(sys.executable).with_name("cooee")


@pytest.fixture
def cooee(stack: Stack, tmp_path: Path) -> Cooee:
    """`await cooee("health")` runs a command from another folder and returns its exit code and its document."""

    async def run(*arguments: str) -> tuple[int | None, Any]:
        process = await asyncio.create_subprocess_exec(
            COOEE,
            *(*arguments, "--json"),
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "COOEE_HOME": str(stack.home)},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        return process.returncode, json.loads(out)

    return run


async def test_commands_work_on_a_running_stack_that_only_its_folder_names(
    stack: Stack, cooee: Cooee, client_of: ClientOf, new_organisation: Callable[[], str]
) -> None:
    body = {"message": "Tomorrow at 10?", "recipient": "0491570006"}
    call = client_of(new_organisation())
    sent = await call("POST", "/api/sms/send/", body, headers={"Prefer": "wait=20"})
    assert sent.status == 200, sent
    code, health = await cooee("health")
    assert (code, health["gateway"], list(health["services"])) == (0, stack.url("gateway"), list(STORES))
    code, history = await cooee("history", "--schedule", str(sent.body["schedule_id"]), "--show-phones")
    assert (code, history["schedule"]["phone"], len(history["messages"])) == (0, "+61491570006", 1)
    code, providers = await cooee("providers", "check")
    assert (code, providers["settings"]) == (0, f"the running stack in {stack.home}")


async def test_a_paused_organisation_sends_when_it_is_resumed(
    cooee: Cooee, client_of: ClientOf, new_organisation: Callable[[], str], eventually: Callable[..., Any]
) -> None:
    paused, other, reason = new_organisation(), client_of(new_organisation()), ("--reason", "contract test")
    call = client_of(paused)
    assert (await call("GET", "/api/contacts/")).status == 200
    assert (await cooee("pause", "organisation", paused, *reason))[0] == 0
    body = {"message": "Tomorrow at 10?", "recipient": "0491570006"}
    accepted = await call("POST", "/api/sms/send/", body)
    assert accepted.status == 202, accepted
    assert (await other("POST", "/api/sms/send/", body, headers={"Prefer": "wait=20"})).body["status"] == "sent"
    schedule = f"/api/schedules/{accepted.body['schedule_id']}/"
    assert (await call("GET", schedule)).body["status"] == "processing"
    assert (await cooee("resume", "organisation", paused, *reason))[0] == 0

    async def is_sent() -> bool:
        return (await call("GET", schedule)).body["status"] in ("sent", "delivered")

    await eventually(is_sent)


async def test_health_says_that_a_provider_is_paused(cooee: Cooee, eventually: Callable[..., Any]) -> None:
    async def has_status(status: str) -> bool:
        _, health = await cooee("health")
        return bool(health["services"]["delivery"]["providers"]["mobile_message"]["status"] == status)

    name, reason = "mobile_message", ("--reason", "contract test")
    assert (await cooee("pause", "provider", name, *reason))[0] == 0
    try:
        await eventually(lambda: has_status("paused"))
    finally:
        assert (await cooee("resume", "provider", name, *reason))[0] == 0
    await eventually(lambda: has_status("available"))
