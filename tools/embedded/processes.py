"""Questions about operating-system processes and TCP ports."""

import ctypes
import os
import random
import signal
import socket
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_FREE_PORTS = range(20_000, 32_768)
_given_ports: set[int] = set()  # a second call must not return a port that nobody listens on yet


def request_death_signal(number: signal.Signals) -> Callable[[], None]:
    """Return a `preexec_fn` after which the new process gets the signal when its starter ends (Linux only).

    The kernel watches the thread that forks, so the thread must live as long as its process.
    """
    starter = os.getpid()

    def set_death_signal() -> None:
        if hasattr(_LIBC, "prctl"):
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(number))
            if os.getppid() != starter:  # the starter ended before prctl was called: no signal will come
                os._exit(1)

    return set_death_signal


def free_port() -> int:
    """Return a random TCP port of 127.0.0.1 that is free now.

    It is below the ports that the system gives to outgoing connections: one of those could take it before a process
    listens on it.
    """
    while True:
        port = random.choice(_FREE_PORTS)
        if port not in _given_ports and not port_is_busy(port):
            _given_ports.add(port)
            return port


def port_is_busy(port: int) -> bool:
    """Return whether the port cannot be listened on. The test itself uses the port for a moment."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return True
    return False


def accepts_connections(port: int) -> bool:
    """Return whether a process accepts connections on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def is_alive(pid: int) -> bool:
    """Return whether a process has this id."""
    return Path(f"/proc/{pid}").exists()


def runs_program(pid: int, argument: str) -> bool:
    """Return whether process `pid` runs with `argument` in its command line. A recycled pid has another one."""
    try:
        command_line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return argument.encode() in command_line


def works_in(pid: int, folder: Path) -> bool:
    """Return whether the current folder of process `pid` is `folder`. A recycled pid has another one."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == folder.resolve()
    except OSError:
        return False
