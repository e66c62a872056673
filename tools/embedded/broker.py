"""A Kafka broker without Java: librdkafka's mock cluster from the `confluent-kafka` wheel, called through ctypes.

It speaks the Kafka protocol over TCP with any client. It stores in memory, at most 5 MiB per partition. It has no admin
API, transactions or deduplication, so the topics are given at the start.
Run it as `python -m tools.embedded.broker --port 29092 --topics a.v1,b.v1`. It prints one line when it is ready.
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

from tools.embedded.processes import free_port, request_death_signal

PARTITIONS = 4
READY = "broker ready"
_HOST = "127.0.0.1"
_START_S = 10.0
# Kafka waits 3 s for more members before the first rebalance of a group. The groups here have few members.
_FIRST_REBALANCE_MS = 200
_PRODUCER = 0
_ERROR_SIZE = 512


class BrokerError(RuntimeError):
    """The broker could not be started. The message says why."""


class EmbeddedBroker:
    """The broker as a separate process, used as a context manager or with `start()` and `stop()`."""

    def __init__(self, topics: Iterable[str], port: int | None = None) -> None:
        """Set the topics to create and the port. Without a port a free one is used."""
        self.topics = list(topics)
        self.port = port or free_port()
        self._process: subprocess.Popen[str] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """Host and port, as Kafka clients expect them."""
        return f"{_HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The broker's process id, or None when it was not started."""
        return self._process.pid if self._process else None

    def command(self) -> list[str]:
        """Return the command line of the broker's process."""
        program = [sys.executable, "-m", "tools.embedded.broker"]
        return [*program, "--port", str(self.port), "--topics", ",".join(self.topics)]

    def start(self) -> Self:
        """Start the process and wait until it is ready. Raises BrokerError."""
        self._process = subprocess.Popen(
            self.command(),
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=request_death_signal(signal.SIGTERM),  # noqa: PLW1509 (no threads here)
        )
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], _START_S)
        line = self._process.stdout.readline() if readable else ""
        if not line.startswith(READY):
            self.stop()
            raise BrokerError(f"the broker did not start on port {self.port}: is another process using the port?")
        return self

    def stop(self) -> None:
        """End the process. Its topics are lost. Does nothing when the process does not run."""
        if self._process is None:
            return
        self._process.kill()  # nothing needs to be saved
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def __enter__(self) -> Self:
        """Start the broker."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the broker."""
        self.stop()


def main() -> None:
    """Run the broker until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m tools.embedded.broker", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--topics", default="", help="names, separated by commas")
    arguments = parser.parse_args()
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    _serve(arguments.port, [topic for topic in arguments.topics.split(",") if topic])
    print(f"{READY} {_HOST}:{arguments.port}", flush=True)
    signal.sigwait(signals)
    os._exit(0)  # librdkafka's threads need not be joined


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
    """Replace the socket that the mock cluster opened on a random port by our listening socket.

    The cluster polls a file descriptor's number, so its socket can be replaced before the first client connects.
    """
    for number in map(int, os.listdir("/dev/fd")):
        try:
            candidate = socket.socket(fileno=os.dup(number))
        except OSError:  # the descriptor was closed, or is no socket
            continue
        with candidate:
            listening = candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if listening and candidate.getsockname()[1] == random_port:
                os.dup2(listener.fileno(), number)
                return
    raise BrokerError("the mock cluster's socket was not found: this version of librdkafka is not supported")


def _load_library() -> ctypes.CDLL:
    spec = importlib.util.find_spec("confluent_kafka")
    if spec is None or spec.origin is None:
        raise BrokerError("the package confluent-kafka is not installed: run `make setup`")
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
