"""`python -m tools.embedded`: run the whole system until Ctrl-C or SIGTERM."""

import asyncio
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tools.embedded.supervisor import Stack, StackError

_LOOK_S = 1.0
_ALARMS = (b'"level": "warning"', b'"level": "error"', b'"level": "critical"', b"Traceback (most recent call last)")
_ALREADY_SAID = ("time", "service", "role")
_NOTICE = """
Cooee is running. Ctrl-C stops it.

{places}

  API         {gateway}/api/docs/
  handset     {handset}/  what reaches the phones; reply from them, decide what their carriers tell
  data        {home}
  logs        {home}/logs  (warnings are shown here too)
  settings    from the environment (README); COOEE_HOME and other ports make a second stack

Try:
  TOKEN=$({token})
  curl -H "Authorization: Bearer $TOKEN" {gateway}/api/contacts/
  curl -H "Authorization: Bearer $TOKEN" -F file=@tools/demo/contacts.csv {gateway}/api/contacts/import/
  curl -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
       -d '{{"message": "Hello from Cooee", "recipient": "0491570006"}}' {gateway}/api/sms/send/
"""
# Who looks on wants to see what becomes of a message; tests and measurements do without, unless they ask for it.
_DEFAULTS = {"HANDSET_RECEIPTS": "on"}


async def main(make_stack: Callable[[], Stack]) -> int:
    """Run the stack until it is told to end; returns the exit code: 2 when it cannot start."""
    try:
        running = asyncio.create_task(_run(make_stack()))
        for ending in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(ending, running.cancel)
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
        print(_notice(stack), flush=True)
        await _show_alarms(stack.home / "logs")
    finally:
        print("Cooee is stopping …", flush=True)
        await stack.stop()


def _notice(stack: Stack) -> str:
    places = "\n".join(f"  {name:<18}{stack.url(name)}" for name in stack.names)
    home = os.path.relpath(stack.home)
    return _NOTICE.format(
        places=places,
        home=home,
        token="make -s token" if home == ".cooee" else f"COOEE_HOME={shlex.quote(home)} make -s token",
        gateway=stack.url("gateway"),
        handset=stack.url("handset"),
    )


async def _show_alarms(folder: Path) -> None:
    """Print what the processes warn of, with their name, as it comes into their logs."""
    positions = {path: path.stat().st_size for path in folder.glob("*.log")}
    while True:
        await asyncio.sleep(_LOOK_S)
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
    """Return a log line for people: the event and what goes with it."""
    try:
        fields = json.loads(line)
    except ValueError:
        return line
    event, level = fields.pop("event", ""), fields.pop("level", "")
    rest = " ".join(f"{name}={value}" for name, value in fields.items() if name not in _ALREADY_SAID)
    return f"{level}: {event} {rest}".rstrip()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(lambda: Stack(environment=_DEFAULTS | {k: v for k, v in os.environ.items() if v}))))
