"""The supervisor starts, watches and stops the processes of a plan: `async with Stack(home) as stack`."""

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeAlias

import aiohttp
import asyncpg

from tools.embedded.environment import DATABASE, HOST, INTERNAL_PORTS, PORTS, add_databases, stack_environment
from tools.embedded.plan import Plan, Stage, cooee_plan
from tools.embedded.processes import accepts_connections, free_port, is_alive, port_is_busy, request_death_signal
from tools.embedded.supervised import REPOSITORY, StackError, SupervisedProcess, tail

_WATCH_S = 0.1
_READY_S = 90.0
_SETUP_S = 120.0
_STOP_S = 60.0
_PORTS_S = 10.0
# A worker without a broker cannot leave its consumer groups. Killing it loses nothing.
_STOP_WITHOUT_BROKER_S = 5.0
_REPAIRS = 5
_REPAIR_PAUSE_S = 5.0
_MISCONFIGURED = 2
_MAX_PORT = 65_535
State: TypeAlias = dict[str, dict[str, Any]]


class Stack:
    """The running processes of a plan. A second stack can run beside it with another `home` and other ports."""

    def __init__(
        self,
        home: Path | str | None = None,
        environment: Mapping[str, str] | None = None,
        *,
        free_ports: bool = False,
        movable: Collection[str] = INTERNAL_PORTS,
        say: Callable[[str], None] | None = None,
        make_plan: Callable[[Path, Mapping[str, str]], Plan] = cooee_plan,
    ) -> None:
        """Compute the environment and the plan, and create missing secrets. Nothing is started.

        `environment` overrides variables of this process. `free_ports` uses a free port where none is given. `movable`
        names the ports that do so only when their default is in use. `say` gets a line for each thing that a person
        should know. `make_plan` replaces the plan of the whole system.
        Raises StackError when a port or the folder cannot be used.
        """
        given = os.environ | dict(environment or {})
        self.home = Path(home or given.get("COOEE_HOME") or ".cooee").absolute()
        self._lock: IO[str] | None = None
        try:
            self.environment = stack_environment(self.home, given, free_ports=free_ports, movable=movable)
        except OSError as error:
            raise StackError(f"COOEE_HOME: the folder {self.home} cannot be used: {error.strerror}") from None
        _check_ports(self.environment)
        self._plan = make_plan(self.home, self.environment)
        self._say = say or (lambda line: print(line, file=sys.stderr, flush=True))
        self._processes = {
            process.name: SupervisedProcess(process, self.home / "logs" / f"{process.name.replace(' ', '-')}.log")
            for process in self._plan.processes
        }
        self._watcher: asyncio.Task[None] | None = None
        self._repair: asyncio.Task[None] | None = None

    @property
    def names(self) -> list[str]:
        """The names of the processes."""
        return list(self._processes)

    def url(self, name: str) -> str:
        """Return the address of a process."""
        return self._processes[name].process.url

    def pid(self, name: str) -> int:
        """Return the id of a process. A restart changes it."""
        return self._processes[name].pid

    def restarts(self, name: str) -> int:
        """Return how often a process was restarted."""
        return self._processes[name].restarts

    def log(self, name: str) -> Path:
        """Return the file with the output of a process."""
        return self._processes[name].log

    def kill(self, name: str) -> None:
        """Kill a process (-9). The supervisor restarts it."""
        self._processes[name].kill()

    async def stop_process(self, name: str) -> None:
        """Stop a process. It stays away until `start_process`."""
        await self._processes[name].stop(_STOP_S)

    def start_process(self, name: str) -> None:
        """Start a process again, without waiting until it is ready."""
        self._start_process(self._processes[name])

    async def start(self) -> None:
        """Start all processes and wait until they are ready. Raises StackError, after stopping what was started."""
        self._lock = _lock(self.home)
        try:
            self._prepare()
            await self._wait_for_ports()
            self._create_logs()
            self._launch(lambda stage: stage >= Stage.TOOL)
            await self._wait_ready(lambda stage: stage >= Stage.BROKER, _READY_S)
            await self._create_database()
            await self._run_all(self._plan.setup)
            self._launch(lambda stage: stage < Stage.TOOL)
            self._watcher = asyncio.create_task(self._watch())
            await self.wait_ready()
        except BaseException:
            await self.stop()
            raise

    async def wait_ready(self, timeout_s: float = _READY_S) -> None:
        """Wait until every started process is ready. Raises StackError with the end of a log when one is not."""
        await self._wait_ready(lambda _: True, timeout_s)

    async def stop(self) -> None:
        """Stop all processes in order. Those that do not stop within 60 s are killed."""
        for task in (self._watcher, self._repair):
            if task:
                task.cancel()
        self._watcher = self._repair = None
        deadline = time.monotonic() + _STOP_S
        for stage in Stage:
            chosen = [supervised for supervised in self._processes.values() if supervised.process.stage is stage]
            left_s = max(0.0, deadline - time.monotonic())
            stopped = await asyncio.gather(*(supervised.stop(left_s) for supervised in chosen))
            for supervised, in_time in zip(chosen, stopped, strict=True):
                if not in_time:
                    self._say(f"{supervised.name} did not stop in time and was killed")
        if self._lock:
            if self._plan.postgres:
                self._plan.postgres.remove_copy()
            (self.home / "stack.json").unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    async def __aenter__(self) -> Self:
        """Start the stack."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the stack."""
        await self.stop()

    async def _wait_ready(self, is_chosen: Callable[[Stage], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        chosen = [each for each in self._processes.values() if each.was_started and is_chosen(each.process.stage)]
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while waiting := [supervised for supervised in chosen if not await supervised.is_ready(session)]:
                for supervised in waiting:
                    if self._will_not_start(supervised) or time.monotonic() > deadline:
                        where = f"The end of {supervised.log}:\n{supervised.tail()}"
                        raise StackError(f"{supervised.name} does not become ready. {where}")
                await asyncio.sleep(_WATCH_S)

    def _will_not_start(self, supervised: SupervisedProcess) -> bool:
        """Return whether a process ended because of its settings, or ended before the watcher can restart it."""
        ended = supervised.exit_code is not None
        return supervised.exit_code == _MISCONFIGURED or (ended and not self._watcher)

    def _prepare(self) -> None:
        """Complete the environment, and prepare PostgreSQL."""
        if self._plan.postgres:
            self._plan.postgres.prepare()  # stops an old server on this data, which would still use the port
            add_databases(self.environment, self._plan.postgres.url(DATABASE))
        elif "DATABASE_URL" in self.environment:
            add_databases(self.environment, self.environment["DATABASE_URL"])
        self.environment.setdefault("KAFKA_BOOTSTRAP_SERVERS", f"{HOST}:{self.environment['KAFKA_PORT']}")

    async def _wait_for_ports(self) -> None:
        """Wait for the ports that processes of a killed stack still use. Raises StackError when one stays in use."""
        deadline = time.monotonic() + _PORTS_S
        old = [int(each["pid"]) for each in _read_state(self.home).values()]
        while busy := [process for process in self._plan.processes if port_is_busy(process.port)]:
            if time.monotonic() > deadline or not any(is_alive(pid) for pid in old):
                lines = [f"port {process.port} of {process.name} is in use" for process in busy]
                others = " ".join(f"{process.port_variable}={free_port()}" for process in busy)
                raise StackError("\n".join([*lines, f"choose another: {others} make run"]))
            await asyncio.sleep(_WATCH_S)

    def _create_logs(self) -> None:
        (self.home / "logs").mkdir(exist_ok=True)
        for supervised in self._processes.values():
            supervised.log.write_bytes(b"")

    def _launch(self, is_chosen: Callable[[Stage], bool]) -> None:
        for supervised in self._processes.values():
            if is_chosen(supervised.process.stage):
                self._start_process(supervised)

    def _start_process(self, supervised: SupervisedProcess) -> None:
        # Only the migrations may use the administrator's database URL.
        supervised.start({name: value for name, value in self.environment.items() if name != "DATABASE_URL"})
        self._write_state()

    async def _create_database(self) -> None:
        if self._plan.postgres is None:
            return
        connection = await asyncpg.connect(self._plan.postgres.url())
        try:
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()

    async def _run_all(self, commands: Mapping[str, list[str]]) -> None:
        """Run commands in parallel. Raises StackError with the output of the one that fails."""
        await asyncio.gather(*(self._run(name, command) for name, command in commands.items()))

    async def _run(self, name: str, command: list[str]) -> None:
        path = self.home / "logs" / f"{name.replace(' ', '-')}.log"
        with path.open("wb") as log:
            handle = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=request_death_signal(signal.SIGKILL),  # noqa: PLW1509 (forked by the main thread)
            )
        deadline = time.monotonic() + _SETUP_S
        try:
            while handle.poll() is None and time.monotonic() < deadline:
                await asyncio.sleep(_WATCH_S)
        finally:
            handle.kill()
            handle.wait()
        if handle.returncode != 0:
            raise StackError(f"{name} failed. The end of {path}:\n{tail(path)}")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            for supervised in self._processes.values():
                if not supervised.wanted or supervised.exit_code is None:
                    continue
                if supervised.restart_at is None:
                    delay = supervised.plan_restart()
                    ending = _describe(supervised.exit_code, supervised.tail())
                    log = os.path.relpath(supervised.log)
                    self._say(f"{supervised.name} {ending}. It is restarted in {delay:.1f} s. Its log is {log}.")
                elif time.monotonic() >= supervised.restart_at:
                    try:
                        await self._restart(supervised)
                    except (OSError, RuntimeError) as error:
                        delay = supervised.plan_restart()
                        self._say(f"{supervised.name} cannot be started: {error}. Next try in {delay:.1f} s.")

    async def _restart(self, supervised: SupervisedProcess) -> None:
        if supervised.process.stage is not Stage.BROKER:
            self._start_process(supervised)
            return
        # The events were in the broker's memory. A consumer that keeps running has an offset of the old topics, and
        # would skip the first events of the new ones.
        workers = [other for other in self._processes.values() if other.process.stage is Stage.WORKER]
        await asyncio.gather(*(worker.stop(_STOP_WITHOUT_BROKER_S) for worker in workers))
        self._start_process(supervised)
        while supervised.exit_code is None and not accepts_connections(supervised.process.port):
            await asyncio.sleep(_WATCH_S)
        for worker in workers:
            self._start_process(worker)
        self._say("The broker lost its events. The workers were restarted, and recent states are published again.")
        if self._repair:
            self._repair.cancel()
        # Not awaited: what the repair needs may itself have to be restarted.
        self._repair = asyncio.create_task(self._run_repair())

    async def _run_repair(self) -> None:
        for _ in range(_REPAIRS):
            try:
                await self._run_all(self._plan.repair)
            except StackError as error:
                self._say(str(error))
                await asyncio.sleep(_REPAIR_PAUSE_S)
            else:
                return

    def _write_state(self) -> None:
        """Write the addresses of the processes to stack.json, for the token command, the demo and the benchmarks."""
        state: State = {
            name: {"pid": each.pid, "port": each.process.port, "url": each.process.url, "log": str(each.log)}
            for name, each in self._processes.items()
            if each.wanted
        }
        if "issuer" in state:
            party = self.environment["CLERK_AUTHORIZED_PARTIES"]
            state["issuer"] |= {"name": self.environment["CLERK_ISSUER"], "party": party}
        if "delivery worker" in state:
            state["delivery worker"] |= {kind: self.environment[f"{kind.upper()}_PROVIDERS"] for kind in ("sms", "mms")}
        new = self.home / "stack.json.new"
        new.write_text(json.dumps(state, indent=2))
        new.replace(self.home / "stack.json")


def _read_state(home: Path) -> State:
    """Return what `_write_state` wrote, or nothing. A stack that was not killed has removed it."""
    try:
        state: State = json.loads((home / "stack.json").read_text())
    except (OSError, ValueError):
        return {}
    return state


def _lock(home: Path) -> IO[str]:
    """Return the open lock file of the folder. Raises StackError when another stack uses the folder."""
    home.mkdir(parents=True, exist_ok=True)
    file = (home / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise StackError(f"a stack already runs in {home}: stop it, or set COOEE_HOME and other ports") from None
    return file


def _check_ports(environment: Mapping[str, str]) -> None:
    for name in PORTS:
        value = environment[name]
        if not (value.isascii() and value.isdigit() and 0 < int(value) <= _MAX_PORT):
            raise StackError(f"{name}: {value!r} is not a port: set a number from 1 to {_MAX_PORT}")


def _describe(exit_code: int, output: str) -> str:
    if exit_code < 0:
        return f"was ended by {signal.Signals(-exit_code).name}"
    last_line = output.rpartition("\n")[2]
    return f"ended with code {exit_code}" + (f" ({last_line})" if last_line else "")
