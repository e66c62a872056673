"""Small facts about processes and ports that the embedded parts share."""

import ctypes
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def die_with_parent(death_signal: signal.Signals) -> Callable[[], None]:
    """Return a `preexec_fn` after which the child gets `death_signal` when its parent is gone (Linux only).

    The kernel watches the thread that forked: fork from a thread that lives as long as the process.
    """
    parent = os.getpid()

    def set_death_signal() -> None:
        if hasattr(_LIBC, "prctl"):
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal))
            if os.getppid() != parent:  # it died between fork and prctl: no signal will come
                os._exit(1)

    return set_death_signal


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def port_is_busy(port: int) -> bool:
    """Return whether the port cannot be listened on. Not for a port that a process of ours is about to take."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return True
    return False


def takes_connections(port: int) -> bool:
    """Return whether somebody answers on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def is_alive(pid: int) -> bool:
    """Return whether a process has this id."""
    return Path(f"/proc/{pid}").exists()


def runs_program(pid: int, word: str) -> bool:
    """Return whether process `pid` lives and has `word` in its command line (a recycled pid has not)."""
    try:
        command_line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return word.encode() in command_line
