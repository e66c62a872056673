"""`cooee` finds a running stack by its folder alone, and says whether the stack works."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ClientOf
from tools.embedded.environment import STORES
from tools.embedded.supervisor import Stack

pytestmark = pytest.mark.stack

# `make setup` installs it beside the Python of the environment.
COOEE = Path(sys.executable).with_name("cooee")


async def test_commands_work_on_a_running_stack_that_only_its_folder_names(
    stack: Stack, client_of: ClientOf, new_organisation: Callable[[], str], tmp_path: Path
) -> None:
    async def cooee(*arguments: str) -> tuple[int | None, Any]:
        process = await asyncio.create_subprocess_exec(
            COOEE,
            *(*arguments, "--json"),
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "COOEE_HOME": str(stack.home)},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        return process.returncode, json.loads(out)

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
