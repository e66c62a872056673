"""A Kafka broker without Java: librdkafka's mock cluster, from the `confluent-kafka` wheel, through ctypes.

It speaks the Kafka protocol over TCP to any client of any process. It keeps everything in memory (at most 5 MiB a
partition), and has no admin API, transactions or deduplication: topics are named at the start.
Run as `python -m tools.embedded.broker --port 59092 --topics a.v1,b.v1`; it prints one line when it is ready.
"""

import argparse
import ctypes
import importlib.util
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.embedded.processes import die_with_parent, free_port

PARTITIONS = 4
READY = "broker ready"
_HOST = "127.0.0.1"
_START_S = 10.0
# Kafka waits 3 s for more members before a new group's first rebalance; here all members are at most a few.
_FIRST_REBALANCE_MS = 200
_PRODUCER = 0
_ERROR_SIZE = 512


class BrokerError(RuntimeError):
    """The broker could not be started."""


class EmbeddedBroker:
    """The broker as a process of its own, used as a context manager or by `start()` and `stop()`."""

    def __init__(self, topics: Iterable[str], port: int | None = None) -> None:
        """Take the topics to make, and the port (None: a free one)."""
        self.topics = list(topics)
        self.port = port or free_port()
        self._process: subprocess.Popen[str] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """What clients need to know: host and port."""
        return f"{_HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The broker's process id, None when it was not started."""
        return self._process.pid if self._process else None

    def command(self) -> list[str]:
        """Return the command line of the broker's process."""
        words = [
            sys.executable,
            "-m",
            "tools.embedded.broker",
            "--port",
            str(self.port),
        ]
        return [*words, "--topics", ",".join(self.topics)]

    def start(self) -> Self:
        """Start the process and wait until it is ready. Raises BrokerError."""
        self._process = subprocess.Popen(
            self.command(),
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 (no threads here)
        )
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], _START_S)
        line = self._process.stdout.readline() if readable else ""
        if not line.startswith(READY):
            self.stop()
            raise BrokerError(f"the broker did not start on port {self.port}")
        return self

    def stop(self) -> None:
        """End the process, and with it all that the broker held. Does nothing when it does not run."""
        if self._process is None:
            return
        self._process.kill()  # there is nothing to save
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m tools.embedded.broker", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--topics", default="", help="names, separated by commas")
    arguments = parser.parse_args()
    endings = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, endings)
    _serve(arguments.port, [topic for topic in arguments.topics.split(",") if topic])
    print(f"{READY} {_HOST}:{arguments.port}", flush=True)
    signal.sigwait(endings)
    os._exit(0)  # librdkafka's threads need no farewell


def _serve(port: int, topics: list[str]) -> None:
    listener = socket.create_server((_HOST, port), backlog=128)
    library = _load_library()
    error = ctypes.create_string_buffer(_ERROR_SIZE)
    configuration = library.rd_kafka_conf_new()
    library.rd_kafka_conf_set(configuration, b"log_level", b"3", error, _ERROR_SIZE)
    client = library.rd_kafka_new(_PRODUCER, configuration, error, _ERROR_SIZE)
    if not client:
        raise BrokerError(error.value.decode())
    cluster = library.rd_kafka_mock_cluster_new(client, 1)
    bootstraps: bytes = library.rd_kafka_mock_cluster_bootstraps(cluster)
    _replace_listener(int(bootstraps.rsplit(b":", 1)[1]), listener)
    library.rd_kafka_mock_broker_set_host_port(cluster, 1, _HOST.encode(), port)
    library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, _FIRST_REBALANCE_MS)
    for topic in topics:
        library.rd_kafka_mock_topic_create(cluster, topic.encode(), PARTITIONS, 1)


def _replace_listener(random_port: int, listener: socket.socket) -> None:
    """Put our listening socket in the place of the one that the mock cluster opened on a port of its own choice.

    The cluster polls a file descriptor's number, so what stands behind it can be changed before the first client.
    """
    for number in map(int, os.listdir("/dev/fd")):
        try:
            candidate = socket.socket(fileno=os.dup(number))
        except OSError:  # closed meanwhile, or no socket
            continue
        with candidate:
            listening = candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if listening and candidate.getsockname()[1] == random_port:
                os.dup2(listener.fileno(), number)
                return
    raise BrokerError("the mock cluster's socket was not found")


def _load_library() -> ctypes.CDLL:
    spec = importlib.util.find_spec("confluent_kafka")
    if spec is None or spec.origin is None:
        raise BrokerError("the package confluent-kafka is not installed")
    package = Path(spec.origin).parent
    candidates = [
        *package.parent.glob("confluent_kafka.libs/librdkafka*"),
        *package.glob(".dylibs/librdkafka*"),
    ]
    library = ctypes.CDLL(str(candidates[0]))
    pointer, text, integer = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures: dict[str, tuple[type[object] | None, list[type[object]]]] = {
        "rd_kafka_conf_new": (pointer, []),
        "rd_kafka_conf_set": (integer, [pointer, text, text, text, ctypes.c_size_t]),
        "rd_kafka_new": (pointer, [integer, pointer, text, ctypes.c_size_t]),
        "rd_kafka_mock_cluster_new": (pointer, [pointer, integer]),
        "rd_kafka_mock_cluster_bootstraps": (text, [pointer]),
        "rd_kafka_mock_broker_set_host_port": (
            integer,
            [pointer, ctypes.c_int32, text, integer],
        ),
        "rd_kafka_mock_group_initial_rebalance_delay_ms": (
            None,
            [pointer, ctypes.c_int32],
        ),
        "rd_kafka_mock_topic_create": (integer, [pointer, text, integer, integer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


if __name__ == "__main__":
    main()
