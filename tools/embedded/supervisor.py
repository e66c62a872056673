"""Starts, watches and stops the processes of a plan, as one thing: `async with Stack(home) as stack`."""

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import aiohttp
import asyncpg

from tools.embedded.environment import DATABASE, HOST, PORTS, add_databases, stack_environment
from tools.embedded.plan import Plan, Process, Stage, cooee_plan
from tools.embedded.processes import die_with_parent, port_is_busy, takes_connections

REPOSITORY = Path(__file__).parents[2]
_WATCH_S = 0.1
_READY_S = 90.0
_SETUP_S = 120.0
_STOP_S = 60.0
# Workers whose broker is gone have nobody to say goodbye to, and killing them loses nothing.
_STOP_WITHOUT_BROKER_S = 5.0
_BACK_OFF_S = (0.2, 10.0)
_STEADY_S = 30.0
_MISCONFIGURED = 2
_TAIL_BYTES, _TAIL_LINES = 50_000, 10
_MAX_PORT = 65_535
_WAY_THERE = (" ", "Traceback (most", "During handling of", "The above exception")


class StackError(RuntimeError):
    """The stack cannot start, or a part of it does not become ready; the message says why and what to do."""


class Child:
    """One process of the plan while it runs, ends and is started again."""

    def __init__(self, process: Process, log: Path) -> None:
        """Take what to run, and the file for what it prints."""
        self.process = process
        self.log = log
        self.wanted = False
        self.restarts = 0
        self.restart_at: float | None = None
        self._started_at = 0.0
        self._back_off_s = _BACK_OFF_S[0]
        self._handle: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running or last process."""
        if self._handle is None:
            raise StackError(f"{self.process.name} was not started")
        return self._handle.pid

    @property
    def was_started(self) -> bool:
        """Whether there is, or was, a process."""
        return self._handle is not None

    @property
    def exit_code(self) -> int | None:
        """The exit code (minus the signal), None while it runs."""
        return self._handle.poll() if self._handle else None

    def start(self, environment: Mapping[str, str]) -> None:
        """Start the process. Its death signal cannot be refused, except by PostgreSQL, which wants to be asked."""
        if self.process.prepare:
            self.process.prepare()
        death_signal = signal.SIGINT if self.process.stage is Stage.POSTGRES else signal.SIGKILL
        with self.log.open("ab") as log:
            self._handle = subprocess.Popen(
                self.process.command,
                cwd=REPOSITORY,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent(death_signal),  # noqa: PLW1509 (forked by the main thread)
            )
        self.wanted, self.restart_at, self._started_at = True, None, time.monotonic()

    def plan_restart(self) -> float:
        """Set when it will be started again, return in how many seconds: longer each time, unless it ran well."""
        if time.monotonic() - self._started_at > _STEADY_S:
            self._back_off_s = _BACK_OFF_S[0]
        delay, self._back_off_s = self._back_off_s, min(self._back_off_s * 2, _BACK_OFF_S[1])
        self.restarts += 1
        self.restart_at = time.monotonic() + delay
        return delay

    async def stop(self, seconds: float) -> bool:
        """Ask the process to end and wait; kill it after `seconds`. Returns whether it ended by itself."""
        self.wanted = False
        if self._handle is None or self.exit_code is not None:
            return True
        self._handle.send_signal(self.process.stop_signal)
        deadline = time.monotonic() + seconds
        while self.exit_code is None:
            if time.monotonic() > deadline:
                self.kill()
                return False
            await asyncio.sleep(0.02)
        return True

    def kill(self) -> None:
        """Kill the process (-9) and wait until it is gone."""
        if self._handle is not None and self.exit_code is None:
            self._handle.kill()
            self._handle.wait()

    async def is_ready(self, session: aiohttp.ClientSession) -> bool:
        """Return whether it lives and does its work."""
        if self.exit_code is not None or not self.wanted:
            return False
        if self.process.is_ready:
            return self.process.is_ready()
        if not self.process.ready_path:
            return takes_connections(self.process.port)
        try:
            async with session.get(self.process.url + self.process.ready_path) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def tail(self) -> str:
        """Return the end of what it printed."""
        return _tail(self.log)


class Stack:
    """The processes of a plan. A second stack runs beside it with another `home` and other ports.

    `environment` goes over the one of this process; `free_ports` takes a free port where none is given; `say` gets
    a line for each thing that a person should know; `make_plan` is another plan than the whole system's.
    """

    def __init__(
        self,
        home: Path | str | None = None,
        environment: Mapping[str, str] | None = None,
        *,
        free_ports: bool = False,
        say: Callable[[str], None] | None = None,
        make_plan: Callable[[Path, Mapping[str, str]], Plan] = cooee_plan,
    ) -> None:
        """Work out the environment and the plan; nothing is started, but secrets are made and kept.

        Raises StackError when a port or the folder cannot be used.
        """
        given = os.environ | dict(environment or {})
        self.home = Path(home or given.get("COOEE_HOME") or ".cooee").absolute()
        self._lock: IO[str] | None = None
        try:
            self.environment = stack_environment(self.home, given, free_ports=free_ports)
        except OSError as error:
            raise StackError(f"COOEE_HOME: {self.home} cannot be used: {error.strerror}") from None
        _check_ports(self.environment)
        self._plan = make_plan(self.home, self.environment)
        self._say = say or (lambda line: print(line, file=sys.stderr, flush=True))
        self._children = {
            process.name: Child(process, self.home / "logs" / f"{process.name.replace(' ', '-')}.log")
            for process in self._plan.processes
        }
        self._watcher: asyncio.Task[None] | None = None

    @property
    def names(self) -> list[str]:
        """The processes' names."""
        return list(self._children)

    def url(self, name: str) -> str:
        """Return where a process listens."""
        return self._children[name].process.url

    def pid(self, name: str) -> int:
        """Return a process's id; it changes when the process is started again."""
        return self._children[name].pid

    def restarts(self, name: str) -> int:
        """Return how often a process was started again."""
        return self._children[name].restarts

    def log(self, name: str) -> Path:
        """Return the file of what a process prints."""
        return self._children[name].log

    def kill(self, name: str) -> None:
        """Kill a process (-9); it will be started again."""
        self._children[name].kill()

    async def start(self) -> None:
        """Start everything and wait until it is ready. Raises StackError; then nothing is left running."""
        self._lock = _lock(self.home)
        try:
            self._prepare()
            self._launch(lambda stage: stage >= Stage.TOOL)
            await self._wait_ready(lambda stage: stage >= Stage.BROKER, _READY_S)
            await self._create_database()
            await self._set_up()
            self._launch(lambda stage: stage < Stage.TOOL)
            self._watcher = asyncio.create_task(self._watch())
            await self.wait_ready()
        except BaseException:
            await self.stop()
            raise

    async def wait_ready(self, seconds: float = _READY_S) -> None:
        """Wait until every started process is ready. Raises StackError, with the end of its log, when one is not."""
        await self._wait_ready(lambda _: True, seconds)

    async def stop(self) -> None:
        """Stop everything in order, within 60 s; what is left then is killed."""
        if self._watcher:
            self._watcher.cancel()
            self._watcher = None
        deadline = time.monotonic() + _STOP_S
        for stage in Stage:
            children = [child for child in self._children.values() if child.process.stage is stage]
            left = max(0.0, deadline - time.monotonic())
            ended = await asyncio.gather(*(child.stop(left) for child in children))
            for child, by_itself in zip(children, ended, strict=True):
                if not by_itself:
                    self._say(f"{child.process.name} did not stop in time and was killed")
        if self._lock:
            (self.home / "stack.json").unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    async def _wait_ready(self, belongs: Callable[[Stage], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        children = [child for child in self._children.values() if child.was_started and belongs(child.process.stage)]
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while waiting := [child for child in children if not await child.is_ready(session)]:
                for child in waiting:
                    hopeless = child.exit_code == _MISCONFIGURED or (child.exit_code is not None and not self._watcher)
                    if hopeless or time.monotonic() > deadline:
                        raise StackError(f"{child.process.name} does not become ready:\n{child.tail()}")
                await asyncio.sleep(_WATCH_S)

    def _prepare(self) -> None:
        """Complete the environment and make the folders. Raises StackError when a port is taken."""
        if self._plan.postgres:
            self._plan.postgres.prepare()  # stops an old server on our data, which would hold the port
            add_databases(self.environment, self._plan.postgres.url(DATABASE))
        elif "DATABASE_URL" in self.environment:
            add_databases(self.environment, self.environment["DATABASE_URL"])
        self.environment.setdefault("KAFKA_BOOTSTRAP_SERVERS", f"{HOST}:{self.environment['KAFKA_PORT']}")
        busy = [
            f"port {process.port} of {process.name} is taken: set {process.port_variable} to another one"
            for process in self._plan.processes
            if port_is_busy(process.port)
        ]
        if busy:
            raise StackError("\n".join(busy))

        (self.home / "logs").mkdir(exist_ok=True)
        for child in self._children.values():
            child.log.write_bytes(b"")

    def _launch(self, belongs: Callable[[Stage], bool]) -> None:
        for child in self._children.values():
            if belongs(child.process.stage):
                self._start_child(child)

    def _start_child(self, child: Child) -> None:
        # Only migrations may be the database's administrator.
        child.start({name: value for name, value in self.environment.items() if name != "DATABASE_URL"})
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

    async def _set_up(self) -> None:
        await self._run_all(self._plan.setup)

    async def _run_all(self, commands: Mapping[str, list[str]]) -> None:
        """Run commands side by side. Raises StackError with the output of one that fails."""
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
                preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 (forked by the main thread)
            )
        deadline = time.monotonic() + _SETUP_S
        try:
            while handle.poll() is None and time.monotonic() < deadline:
                await asyncio.sleep(_WATCH_S)
        finally:
            handle.kill()
            handle.wait()
        if handle.returncode != 0:
            raise StackError(f"{name} failed:\n{_tail(path)}")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            for child in self._children.values():
                if not child.wanted or child.exit_code is None:
                    continue
                if child.restart_at is None:
                    delay = child.plan_restart()
                    how = _describe(child.exit_code, child.tail())
                    log = os.path.relpath(child.log)
                    self._say(f"{child.process.name} {how}; it is started again in {delay:.1f} s (log: {log})")
                elif time.monotonic() >= child.restart_at:
                    try:
                        await self._restart(child)
                    except (OSError, RuntimeError) as error:
                        delay = child.plan_restart()
                        self._say(f"{child.process.name} cannot be started, again in {delay:.1f} s: {error}")

    async def _restart(self, child: Child) -> None:
        if child.process.stage is not Stage.BROKER:
            self._start_child(child)
            return
        # Its memory died with it. Consumers that live on would skip what the new, empty topics get first.
        workers = [other for other in self._children.values() if other.process.stage is Stage.WORKER]
        await asyncio.gather(*(worker.stop(_STOP_WITHOUT_BROKER_S) for worker in workers))
        self._start_child(child)
        while child.exit_code is None and not takes_connections(child.process.port):
            await asyncio.sleep(_WATCH_S)
        for worker in workers:
            self._start_child(worker)
        self._say("the broker lost what it held; the workers were started again, sweepers repair the rest")
        try:
            await self._run_all(self._plan.repair)
        except StackError as error:
            self._say(str(error))

    def _write_state(self) -> None:
        """Tell other commands (token, demo, benchmarks) where everything is."""
        state: dict[str, dict[str, Any]] = {
            name: {"pid": child.pid, "port": child.process.port, "url": child.process.url, "log": str(child.log)}
            for name, child in self._children.items()
            if child.wanted
        }
        if "issuer" in state:
            party = self.environment["CLERK_AUTHORIZED_PARTIES"]
            state["issuer"] |= {"name": self.environment["CLERK_ISSUER"], "party": party}
        if "delivery worker" in state:
            state["delivery worker"] |= {kind: self.environment[f"{kind.upper()}_PROVIDERS"] for kind in ("sms", "mms")}
        new = self.home / "stack.json.new"
        new.write_text(json.dumps(state, indent=2))
        new.replace(self.home / "stack.json")


def _lock(home: Path) -> IO[str]:
    """Return the open lock file of the folder. Raises StackError when another stack runs there."""
    home.mkdir(parents=True, exist_ok=True)
    file = (home / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise StackError(f"a stack runs in {home} already: stop it, or set COOEE_HOME and other ports") from None
    return file


def _check_ports(environment: Mapping[str, str]) -> None:
    for name in PORTS:
        value = environment[name]
        if not (value.isascii() and value.isdigit() and 0 < int(value) <= _MAX_PORT):
            raise StackError(f"{name}: {value!r} is no port: a number from 1 to {_MAX_PORT} is needed")


def _describe(exit_code: int, tail: str) -> str:
    if exit_code < 0:
        return f"was ended by {signal.Signals(-exit_code).name}"
    last_words = tail.rpartition("\n")[2]
    return f"ended with code {exit_code}" + (f" ({last_words})" if last_words else "")


def _tail(path: Path) -> str:
    """Return the end of a log; of a traceback its last line, which says what is wrong, without the way there."""
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = log.read().decode(errors="replace").splitlines()
    told = [line for line in lines if line and not line.startswith(_WAY_THERE)]
    return "\n".join(told[-_TAIL_LINES:])
