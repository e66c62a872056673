"""The supervisor with stand-ins for the services: order, restarts, busy ports, and no process left behind."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from tools.embedded.environment import DATABASE, PORTS
from tools.embedded.plan import Plan, Process, Stage, postgres_process
from tools.embedded.postgres import EmbeddedPostgres
from tools.embedded.processes import free_port, is_alive, runs_program
from tools.embedded.supervised import StackError, SupervisedProcess, tail
from tools.embedded.supervisor import Stack
from tools.tests.embedded.stand_in_stack import PROCESSES, stand_in_plan

REPOSITORY = Path(__file__).parents[3]
NAMES = [name for name, _, _ in PROCESSES]


async def until(condition: Callable[[], object], timeout_s: float = 15) -> None:
    """Poll until the condition is true. Fails after the time-out."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"the condition was not true within {timeout_s} s"
        await asyncio.sleep(0.02)


def moments(stack: Stack, name: str, event: str) -> list[float]:
    """Return the times at which a stand-in `started` or `ended`, from its log."""
    lines = [line.split() for line in stack.log(name).read_text().splitlines()]
    return [float(line[1]) for line in lines if line[0] == event]


@pytest.fixture
def said() -> list[str]:
    """Return the list of the lines that the supervisor prints."""
    return []


@pytest.fixture
async def stack(tmp_path: Path, said: list[str]) -> AsyncIterator[Stack]:
    """Start a stack of stand-ins."""
    async with Stack(tmp_path, {}, free_ports=True, say=said.append, make_plan=stand_in_plan) as running:
        yield running


async def test_stack_starts_and_ends_in_order_and_writes_its_state(tmp_path: Path) -> None:
    async with Stack(tmp_path, {}, free_ports=True, make_plan=stand_in_plan) as stack:
        state = json.loads((tmp_path / "stack.json").read_text())
        pids = {name: stack.pid(name) for name in NAMES}
        assert {name: entry["pid"] for name, entry in state.items()} == pids
        assert state["gateway"]["url"] == stack.url("gateway")
        assert (state["delivery worker"]["sms"], state["delivery worker"]["mms"]) == ("mobile_message", "messagemedia")
        started = {name: moments(stack, name, "started")[0] for name in NAMES}
        assert max(started["broker"], started["handset"]) < min(started["gateway"], started["delivery worker"])
    ended = {name: moments(stack, name, "ended")[0] for name in NAMES}
    order = sorted(ended, key=lambda name: ended[name])
    assert order == ["gateway", "delivery worker", "delivery api", "handset", "broker"]
    assert not any(is_alive(pid) for pid in pids.values())
    assert not (tmp_path / "stack.json").exists()


async def test_crashed_process_is_restarted_and_reported(stack: Stack, said: list[str]) -> None:
    old = stack.pid("delivery worker")
    stack.kill("delivery worker")
    await stack.wait_ready()
    assert stack.pid("delivery worker") != old
    assert stack.restarts("delivery worker") == 1
    assert len(said) == 1
    assert said[0].startswith("delivery worker was ended by SIGKILL. It is restarted in")
    state = json.loads((stack.home / "stack.json").read_text())
    assert state["delivery worker"]["pid"] == stack.pid("delivery worker")


async def test_workers_stop_before_a_dead_broker_restarts_and_start_after_it(stack: Stack) -> None:
    pids = {name: stack.pid(name) for name in NAMES}
    stack.kill("broker")
    await until(lambda: len(moments(stack, "delivery worker", "started")) == 2)
    await stack.wait_ready()
    assert moments(stack, "delivery worker", "ended")[0] < moments(stack, "broker", "started")[1]
    assert moments(stack, "broker", "started")[1] < moments(stack, "delivery worker", "started")[1]
    assert {name for name in NAMES if stack.pid(name) != pids[name]} == {"broker", "delivery worker"}
    assert stack.restarts("delivery worker") == 0
    log = stack.home / "logs" / "republish.log"
    await until(lambda: log.exists() and log.read_text() == "repaired\n")


async def test_process_that_ends_during_a_repair_is_restarted_before_it_is_over(tmp_path: Path) -> None:
    awaited = tmp_path / "go"
    given = {"REPAIR_AFTER": str(awaited)}
    async with Stack(tmp_path, given, free_ports=True, make_plan=stand_in_plan) as stack:
        log = stack.home / "logs" / "republish.log"
        stack.kill("broker")
        await until(log.exists)
        stack.kill("handset")
        await until(lambda: len(moments(stack, "handset", "started")) == 2)
        assert log.read_text() == ""
        awaited.touch()
        await until(lambda: log.read_text() == "repaired\n")


async def test_only_set_up_commands_get_the_administrators_url(tmp_path: Path) -> None:
    given = {"DATABASE_URL": "postgresql://admin:secret@127.0.0.1:1/cooee"}
    async with (
        Stack(tmp_path, given, free_ports=True, make_plan=stand_in_plan) as stack,
        aiohttp.ClientSession() as session,
        session.get(stack.url("gateway")) as response,
    ):
        names = json.loads(await response.read())
        assert stack.environment["CONTACTS_DATABASE_URL"].startswith("postgresql://contacts:")
        assert stack.environment["CONTACTS_DATABASE_URL"].endswith("@127.0.0.1:1/cooee")
    assert "CONTACTS_DATABASE_URL" in names
    assert "DATABASE_URL" not in names
    assert (tmp_path / "logs" / "migrate.log").read_text() == "True\n"


async def test_secrets_are_saved_for_the_next_start_and_readable_by_the_owner_only(tmp_path: Path) -> None:
    first, second = (Stack(tmp_path, {}, make_plan=stand_in_plan, movable=()).environment for _ in range(2))
    assert first == second
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600
    given = Stack(tmp_path, {"INTERNAL_TOKEN_SECRET": "mine"}, make_plan=stand_in_plan).environment
    assert given["INTERNAL_TOKEN_SECRET"] == "mine"


async def test_busy_port_is_reported_with_its_variable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        given = {"DELIVERY_PORT": str(port)}
        with pytest.raises(StackError, match=rf"port {port} of delivery api is in use\n.*DELIVERY_PORT=\d+ make run"):
            await Stack(tmp_path, given, free_ports=True, make_plan=stand_in_plan).start()


async def test_busy_internal_port_is_replaced_by_a_free_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        for name in ("DELIVERY_PORT", "GATEWAY_PORT"):
            monkeypatch.setitem(PORTS, name, port)
        environment = Stack(tmp_path, {}, make_plan=stand_in_plan).environment
        assert (environment["DELIVERY_PORT"] != str(port), environment["GATEWAY_PORT"]) == (True, str(port))
        assert environment["DELIVERY_URL"].endswith(environment["DELIVERY_PORT"])
        environment = Stack(tmp_path, {}, make_plan=stand_in_plan, movable=PORTS).environment
        assert str(port) not in (environment["DELIVERY_PORT"], environment["GATEWAY_PORT"])


async def test_stack_starts_right_after_its_end_or_its_kill(tmp_path: Path) -> None:
    given = {name: str(free_port()) for name in PORTS}
    command = [sys.executable, "-m", "tools.tests.embedded.stand_in_stack"]
    environment = os.environ | given | {"COOEE_HOME": str(tmp_path)}
    for ending in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM):
        program = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True)
        assert program.stdout is not None
        banner = [line async for line in _until_line(iter(program.stdout.readline, ""), "/api/sms/send/")]
        assert banner
        async with aiohttp.ClientSession() as session:
            answers = [session.get(f"http://127.0.0.1:{given['GATEWAY_PORT']}/") for _ in range(3)]
            for answer in answers:
                (await answer).close()
        program.send_signal(ending)
        await asyncio.to_thread(program.wait, timeout=20)
        program.stdout.close()


@pytest.mark.parametrize("port", ["abc", "0", "65536", "-1"])
def test_invalid_port_is_reported_with_its_variable(tmp_path: Path, port: str) -> None:
    with pytest.raises(StackError, match=f"GATEWAY_PORT: '{port}' is not a port"):
        Stack(tmp_path, {"GATEWAY_PORT": port}, make_plan=stand_in_plan)


def test_unusable_folder_is_reported_with_its_variable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="COOEE_HOME: .* cannot be used"):
        Stack(tmp_path / "file" / "home", {}, make_plan=stand_in_plan)


def test_tail_of_a_log_shows_the_error_without_its_traceback(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text('Traceback (most recent call last):\n  File "a.py", line 1\nValueError: no such thing\n')
    assert tail(log) == "ValueError: no such thing"


async def test_misconfigured_process_fails_the_start_with_its_message(tmp_path: Path, said: list[str]) -> None:
    given = {"WORKER_BEHAVIOUR": "misconfigured"}
    stack = Stack(tmp_path, given, free_ports=True, make_plan=stand_in_plan, say=said.append)
    with pytest.raises(StackError, match="A_SECRET: field required"):
        await stack.start()
    assert all("A_SECRET: field required" in line for line in said)
    assert not any(is_alive(stack.pid(name)) for name in NAMES)


async def test_second_stack_in_the_same_folder_is_refused(stack: Stack) -> None:
    with pytest.raises(StackError, match="COOEE_HOME"):
        await Stack(stack.home, {}, free_ports=True, make_plan=stand_in_plan).start()
    await stack.wait_ready()


async def test_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "tools.tests.embedded.stand_in", str(port), "stubborn"]
    process = Process(
        name="stubborn", stage=Stage.API, command=command, port=port, port_variable="PORT", ready_path="/"
    )
    supervised = SupervisedProcess(process, tmp_path / "log")
    supervised.start(os.environ)
    async with aiohttp.ClientSession() as session:
        while not await supervised.is_ready(session):
            await asyncio.sleep(0.02)
    assert await supervised.stop(0.1) is False
    assert supervised.exit_code == -signal.SIGKILL


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
async def test_ended_command_leaves_no_process_behind(tmp_path: Path, ending: signal.Signals) -> None:
    command = [sys.executable, "-m", "tools.tests.embedded.stand_in_stack"]
    environment = os.environ | {"COOEE_HOME": str(tmp_path)}
    program = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    lines = iter(program.stdout.readline, "")
    banner = [line async for line in _until_line(lines, "/api/sms/send/")]
    assert any("delivery worker" in line for line in banner)
    pids = [entry["pid"] for entry in json.loads((tmp_path / "stack.json").read_text()).values()]
    assert len(pids) == len(NAMES)
    program.send_signal(ending)
    output, _ = await asyncio.to_thread(program.communicate, timeout=20)
    await until(lambda: not any(runs_program(pid, "stand_in") for pid in pids))
    if ending is not signal.SIGKILL:
        assert program.returncode == 0
        assert "Cooee has stopped." in output


async def _until_line(lines: Iterator[str], content: str) -> AsyncIterator[str]:
    """Yield lines until one has the content."""
    while True:
        line = await asyncio.to_thread(next, lines, "")
        assert line, "the program ended"
        yield line
        if content in line:
            return


async def test_busy_port_ends_the_command_with_code_two(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        environment = os.environ | {"COOEE_HOME": str(tmp_path), "GATEWAY_PORT": port}
        command = [sys.executable, "-m", "tools.tests.embedded.stand_in_stack"]
        result = await asyncio.to_thread(
            subprocess.run, command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=30
        )
    assert result.returncode == 2
    assert "GATEWAY_PORT" in result.stderr


async def test_killed_and_restarted_postgres_has_its_rows(tmp_path: Path) -> None:
    def plan(home: Path, environment: object) -> Plan:
        server = EmbeddedPostgres(home / "postgres", free_port())
        return Plan([postgres_process(server)], {}, server)

    async def run(stack: Stack, statement: str) -> object:
        connection = await asyncpg.connect(stack.environment["DATABASE_URL"])
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    async with Stack(tmp_path, {}, make_plan=plan, say=lambda _: None) as stack:
        assert await run(stack, "SELECT current_database()") == DATABASE
        await run(stack, "CREATE TABLE saved AS SELECT 7 AS value")
        stack.kill("postgres")
        await stack.wait_ready()
        assert await run(stack, "SELECT value FROM saved") == 7
    async with Stack(tmp_path, {}, make_plan=plan) as stack:
        assert await run(stack, "SELECT value FROM saved") == 7
