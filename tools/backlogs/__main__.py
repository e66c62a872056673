"""Measure how backlogs are drained on a new embedded stack: `python -m tools.backlogs --minutes 1 --rows 1000000`.

The exit code is 1 when a promise was not kept, and 2 when the stack cannot start.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from tools.backlogs.run import SCENARIOS, run
from tools.backlogs.world import Size
from tools.embedded.supervised import StackError

_MAX_MINUTES = 24 * 60
_MAX_ROWS = 100_000_000


def main() -> int:
    """Run, print the report, and return the exit code."""
    usual = Size()
    parser = argparse.ArgumentParser(prog="python -m tools.backlogs", description=__doc__)
    parser.add_argument("--minutes", type=float, default=usual.outage_s / 60, help="how long each outage lasts")
    parser.add_argument("--rows", type=int, default=usual.rows, help="rows in an outbox")
    parser.add_argument("--queued", type=int, default=usual.queued, help="queued messages of one organisation")
    parser.add_argument("--only", nargs="+", choices=list(SCENARIOS), default=[], help="run only these scenarios")
    parser.add_argument("--json", type=Path, help="file for the figures and the violations")
    parser.add_argument("--keep", action="store_true", help="keep the data and the logs of the stack")
    options = parser.parse_args()
    if not 0 < options.minutes <= _MAX_MINUTES:
        parser.error(f"--minutes: enter a number above 0, at most {_MAX_MINUTES}")
    for name in ("rows", "queued"):
        if not 0 < getattr(options, name) <= _MAX_ROWS:
            parser.error(f"--{name}: enter a whole number from 1 to {_MAX_ROWS}")
    home = Path(tempfile.mkdtemp(prefix="cooee-backlogs-"))
    home.chmod(0o755)  # PostgreSQL runs as another user when root starts it
    start = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - start:7.1f}  {line}", flush=True)

    size = Size(outage_s=options.minutes * 60, rows=options.rows, queued=options.queued)
    try:
        report = uvloop.run(run(size, home, say, options.only))
    except StackError as error:
        print(error, file=sys.stderr)
        print(f"the logs are in {home / 'logs'}", file=sys.stderr)
        return 2
    print("\n".join(report.lines()))
    if options.json:
        options.json.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    if report.violations or options.keep:
        print(f"the data and the logs of the stack are in {home}")
    else:
        shutil.rmtree(home, ignore_errors=True)
    print("VIOLATED" if report.violations else "all promises kept")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
