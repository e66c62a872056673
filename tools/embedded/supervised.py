"""One process of the embedded stack while it runs, ends and is restarted."""

import asyncio
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from tools.embedded.plan import Process, Stage
from tools.embedded.processes import accepts_connections, request_death_signal

REPOSITORY = Path(__file__).parents[2]
_BACK_OFF_S = (0.2, 10.0)
_STEADY_S = 30.0
_TAIL_BYTES, _TAIL_LINES = 50_000, 10
_TRACEBACK = (" ", "Traceback (most", "During handling of", "The above exception")


class StackError(RuntimeError):
    """The stack cannot start, or a part of it does not become ready. The message says why and what to do."""


class SupervisedProcess:
    """One process of the plan: starts, stops and restarts it, and writes its output to a log."""

    def __init__(self, process: Process, log: Path) -> None:
        """Set what to run, and the file for its output."""
        self.process = process
        self.log = log
        self.wanted = False
        self.restarts = 0
        self.restart_at: float | None = None
        self._started_at = 0.0
        self._back_off_s = _BACK_OFF_S[0]
        self._handle: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """The name of the process in the plan."""
        return self.process.name

    @property
    def pid(self) -> int:
        """The process id of the running process, or of the last one. Raises StackError before the first start."""
        if self._handle is None:
            raise StackError(f"{self.name} was not started")
        return self._handle.pid

    @property
    def was_started(self) -> bool:
        """Whether the process was ever started."""
        return self._handle is not None

    @property
    def exit_code(self) -> int | None:
        """The exit code (a negative number is a signal), or None while the process runs."""
        return self._handle.poll() if self._handle else None

    def start(self, environment: Mapping[str, str]) -> None:
        """Start the process. It is killed when this one dies. PostgreSQL gets SIGINT instead, to stop cleanly."""
        if self.process.prepare:
            self.process.prepare()
        command = self.process.command if isinstance(self.process.command, list) else self.process.command()
        death_signal = signal.SIGINT if self.process.stage is Stage.POSTGRES else signal.SIGKILL
        with self.log.open("ab") as log:
            self._handle = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=request_death_signal(death_signal),  # noqa: PLW1509 (forked by the main thread)
            )
        self.wanted, self.restart_at, self._started_at = True, None, time.monotonic()

    def plan_restart(self) -> float:
        """Set the time of the next restart and return the delay in seconds. The delay doubles unless it ran well."""
        if time.monotonic() - self._started_at > _STEADY_S:
            self._back_off_s = _BACK_OFF_S[0]
        delay, self._back_off_s = self._back_off_s, min(self._back_off_s * 2, _BACK_OFF_S[1])
        self.restarts += 1
        self.restart_at = time.monotonic() + delay
        return delay

    async def stop(self, timeout_s: float) -> bool:
        """Ask the process to stop, and kill it after the time-out. Return whether it stopped in time."""
        self.wanted = False
        if self._handle is None or self.exit_code is not None:
            return True
        self._handle.send_signal(self.process.stop_signal)
        deadline = time.monotonic() + timeout_s
        while self.exit_code is None:
            if time.monotonic() > deadline:
                self.kill()
                return False
            await asyncio.sleep(0.02)
        return True

    def kill(self) -> None:
        """Kill the process (-9) and wait until it has ended."""
        if self._handle is not None and self.exit_code is None:
            self._handle.kill()
            self._handle.wait()

    async def is_ready(self, session: aiohttp.ClientSession) -> bool:
        """Return whether the process runs and is ready."""
        if self.exit_code is not None or not self.wanted:
            return False
        if self.process.is_ready:
            return self.process.is_ready()
        if not self.process.ready_path:
            return accepts_connections(self.process.port)
        try:
            async with session.get(self.process.url + self.process.ready_path) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def tail(self) -> str:
        """Return the end of the output."""
        return tail(self.log)


def tail(path: Path) -> str:
    """Return the last lines of a log. Of a traceback only the error is returned, without the stack."""
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = log.read().decode(errors="replace").splitlines()
    shown = [line for line in lines if line and not line.startswith(_TRACEBACK)]
    return "\n".join(shown[-_TAIL_LINES:])
