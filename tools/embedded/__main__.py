"""Run the embedded stack until Ctrl-C or SIGTERM: `python -m tools.embedded`."""

import asyncio
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tools.embedded.supervised import StackError
from tools.embedded.supervisor import Stack

_POLL_S = 1.0
_ALARMS = (b'"level": "warning"', b'"level": "error"', b'"level": "critical"', b"Traceback (most recent call last)")
_HIDDEN_FIELDS = ("time", "service", "role")
_BANNER = """
Cooee is running. Ctrl-C stops it.

{addresses}

  API         {gateway}/api/docs/
  handset     {handset}/  read the messages, reply to them, choose the delivery receipts
  files       {home}
  logs        {home}/logs  (warnings are also printed here)
  settings    environment variables (.env.example); COOEE_HOME, GATEWAY_PORT and HANDSET_PORT for a second stack

Try:
  TOKEN=$({token})
  curl -H "Authorization: Bearer $TOKEN" {gateway}/api/contacts/
  curl -H "Authorization: Bearer $TOKEN" -F file=@tools/demo/contacts.csv {gateway}/api/contacts/import/
  curl -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
       -d '{{"message": "Hello from Cooee", "recipient": "0491570006"}}' {gateway}/api/sms/send/
"""
# A person wants to see delivery receipts and the operators' page. Tests and benchmarks add what they need of them.
_DEFAULTS = {"HANDSET_RECEIPTS": "on", "OPERATORS_ORGANISATION": "org_operators"}


async def main(make_stack: Callable[[], Stack]) -> int:
    """Run the stack until SIGINT or SIGTERM. Return the exit code: 0, or 2 when the stack cannot start."""
    try:
        running = asyncio.create_task(_run(make_stack()))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, running.cancel)
        await running
    except StackError as error:
        print(error, file=sys.stderr)
        return 2
    except asyncio.CancelledError:
        print("Cooee has stopped.", flush=True)
    return 0


async def _run(stack: Stack) -> None:
    print("Cooee is starting …", flush=True)
    await stack.start()
    try:
        print(_banner(stack), flush=True)
        await _show_alarms(stack.home / "logs")
    finally:
        print("Cooee is stopping …", flush=True)
        await stack.stop()


def _banner(stack: Stack) -> str:
    addresses = "\n".join(f"  {name:<18}{stack.url(name)}" for name in stack.names)
    home = os.path.relpath(stack.home)
    return _BANNER.format(
        addresses=addresses,
        home=home,
        token="make -s token" if home == ".cooee" else f"COOEE_HOME={shlex.quote(home)} make -s token",
        gateway=stack.url("gateway"),
        handset=stack.url("handset"),
    )


async def _show_alarms(folder: Path) -> None:
    """Print the warnings and errors of the processes as they appear in their logs."""
    positions = {path: path.stat().st_size for path in folder.glob("*.log")}
    while True:
        await asyncio.sleep(_POLL_S)
        for path, position in positions.items():
            with path.open("rb") as log:
                log.seek(position)
                new = log.read()
            complete = new[: new.rfind(b"\n") + 1]
            positions[path] = position + len(complete)
            for line in complete.splitlines():
                if any(alarm in line for alarm in _ALARMS):
                    print(f"{path.stem}: {_readable(line.decode(errors='replace'))}", flush=True)


def _readable(line: str) -> str:
    """Return a JSON log line as text: level, event and fields."""
    try:
        fields = json.loads(line)
    except ValueError:
        return line
    event, level = fields.pop("event", ""), fields.pop("level", "")
    rest = " ".join(f"{name}={value}" for name, value in fields.items() if name not in _HIDDEN_FIELDS)
    return f"{level}: {event} {rest}".rstrip()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(lambda: Stack(environment=_DEFAULTS | {k: v for k, v in os.environ.items() if v}))))
