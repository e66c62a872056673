"""The code of the previous release on the schema of this one, as in the middle of a rolling upgrade.

The schema is migrated by this code. The APIs, workers and the gateway are those of the newest tag `v…` before this
commit. PREVIOUS_RELEASE names another commit.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from tools.demo.journey import CSV, Api, check_exactly_once, expected_messages, read_handset, run_journey
from tools.embedded.plan import Plan, Stage, cooee_plan
from tools.embedded.supervisor import Stack
from tools.token import Issuer, Session, mint

from .manifests import ROOT

pytestmark = pytest.mark.stack


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


@pytest.fixture
def previous(tmp_path: Path) -> Iterator[Path]:
    """A working tree of the previous release."""
    name = os.environ.get("PREVIOUS_RELEASE") or git("describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^")
    if not name:
        pytest.skip("there is no previous release: no tag v… before this commit")
    tree = tmp_path / "previous"
    assert subprocess.run(["git", "worktree", "add", "--detach", tree, name], cwd=ROOT, check=False).returncode == 0
    yield tree
    git("worktree", "remove", "--force", str(tree))


def with_code_of(tree: Path, home: Path, environment: Mapping[str, str]) -> Plan:
    """Return the plan of the stack with the services' processes of another working tree."""
    plan = cooee_plan(home, environment)
    path = ":".join(map(str, [tree / "libs/common/src", *sorted(tree.glob("services/*/src"))]))
    processes = [
        replace(one, command=["env", f"PYTHONPATH={path}", *one.command])
        if one.stage <= Stage.API and isinstance(one.command, list)
        else one
        for one in plan.processes
    ]
    assert sum(one not in plan.processes for one in processes) == 7
    return replace(plan, processes=processes)


async def test_the_previous_release_works_on_the_new_schema(previous: Path, tmp_path: Path) -> None:
    """Run the journey of the demo: imports, an opt-out, a limit, a batch, and the outcome of every message."""
    stack = Stack(
        tmp_path / "stack",
        free_ports=True,
        make_plan=lambda home, environment: with_code_of(previous, home, environment),
    )
    async with stack as running, aiohttp.ClientSession() as session:
        token = mint(
            Session("user_previous", "org_previous", "admin"), Issuer(running.home, running.environment["CLERK_ISSUER"])
        )
        rows = CSV.read_bytes()
        result = await run_journey(Api(session, running.url("gateway"), lambda: token), rows=rows)
        expected = expected_messages(rows, result.refused, result.opted_out_phone)
        check_exactly_once(await read_handset(session, running.url("handset")), expected)
        assert result.counts == {"sent": len(expected)}
