"""Azurite, Microsoft's emulator of Azure Blob Storage, for the tests of the media storage. npm installs it once."""

import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tools import npm
from tools.embedded.processes import accepts_connections, free_port, request_death_signal

ACCOUNT = "devstoreaccount1"
# The key that Microsoft publishes for its emulator.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_HERE = Path(__file__).parent
_START_TIMEOUT_S = 60.0


class AzuriteUnavailable(RuntimeError):
    """Azurite cannot be started on this machine. The message says why."""


class Azurite:
    """A running Azurite on a free port of this machine. It stores in memory, and is used as a context manager."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/{ACCOUNT}"
        self.connection_string = (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.url};"
        )

    def __enter__(self) -> Self:
        program = npm.install("azurite", _HERE) / "node_modules/azurite/dist/src/blob/main.js"
        options = ["--silent", "--blobHost", "127.0.0.1", "--blobPort", str(self.port)]
        # The client sends the version of its API, which is newer than the emulator's.
        options += ["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck"]
        self._process = subprocess.Popen(
            [npm.node(), str(program), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=request_death_signal(signal.SIGKILL),  # noqa: PLW1509 (no threads are running yet)
        )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not accepts_connections(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise AzuriteUnavailable(f"Azurite did not start within {_START_TIMEOUT_S:.0f} s")
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
