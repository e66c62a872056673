"""Find the embedded stack (`make run`) in its folder. Elsewhere, also in the image, there is none."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def running_environment(home: Path) -> dict[str, str]:
    """Return the environment of the delivery worker of the running stack, or nothing when none runs."""
    try:
        pid = _running(home)["delivery worker"]["pid"]
        content = Path(f"/proc/{pid}/environ").read_bytes()
    except (OSError, KeyError):
        return {}
    variables = (os.fsdecode(entry).partition("=") for entry in content.split(b"\0") if entry)
    environment = {name: value for name, _, value in variables}
    # A stack that was killed leaves its file behind, and its process ids may belong to others now.
    return environment if environment.get("COOEE_HOME") == str(home.absolute()) else {}


def stored_environment(home: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that the stack in `home` would get, or nothing when there is none."""
    if not (home / "secrets.json").exists():
        return {}
    # Only a checkout has an embedded stack, and only a checkout has `tools`.
    from tools.embedded.environment import DATABASE, HOST, add_databases, stack_environment  # noqa: PLC0415

    environment = stack_environment(home, {**given, **_ports_and_chains(home)})
    environment.setdefault("KAFKA_BOOTSTRAP_SERVERS", f"{HOST}:{environment['KAFKA_PORT']}")
    add_databases(environment, f"postgresql://{HOST}:{environment['POSTGRES_PORT']}/{DATABASE}")
    return environment


def _ports_and_chains(home: Path) -> dict[str, str]:
    """Return the ports and provider chains of the running stack, which may differ from the defaults."""
    running = _running(home)
    names = {
        "GATEWAY_PORT": "gateway",
        "POSTGRES_PORT": "postgres",
        "KAFKA_PORT": "broker",
        "HANDSET_PORT": "handset",
        "OPERATORS_PORT": "operators' page",
    }
    found = {variable: str(running[name]["port"]) for variable, name in names.items() if name in running}
    chains = running.get("delivery worker", {})
    return found | {f"{kind.upper()}_PROVIDERS": chains[kind] for kind in ("sms", "mms") if kind in chains}


def _running(home: Path) -> dict[str, dict[str, Any]]:
    """Return the processes in `stack.json`, or nothing when the file is missing or damaged."""
    try:
        processes: dict[str, dict[str, Any]] = json.loads((home / "stack.json").read_text())
    except (OSError, ValueError):
        return {}
    return processes
