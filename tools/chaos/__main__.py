"""Run load and faults from a seed on a new embedded stack, and compare: `python -m tools.chaos --seed 7 --minutes 3`.

`--kafka` starts Apache Kafka in a container, which needs Docker. KAFKA_BOOTSTRAP_SERVERS names a running broker, which
gets no faults. The exit code is 1 when a promise was not kept, and 2 when the stack cannot start.
"""

import argparse
import json
import secrets
import shutil
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import uvloop

from tools.chaos.kafka import run_kafka
from tools.chaos.report import as_json, lines
from tools.chaos.run import run
from tools.embedded.supervised import StackError

_LONGEST_MINUTES = 24 * 60


def main() -> int:
    """Run, print the report, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10_000), help="chooses the load and the faults")
    parser.add_argument("--minutes", type=float, default=3.0, help="how long the load and the faults last")
    parser.add_argument("--kafka", action="store_true", help="use Apache Kafka in a container as the broker")
    parser.add_argument("--json", type=Path, help="file for the figures, the plan and the violations")
    parser.add_argument("--keep", action="store_true", help="keep the data and the logs of the stack")
    options = parser.parse_args()
    if options.seed < 0:
        parser.error("--seed: enter a whole number from 0")
    if not 0.5 <= options.minutes <= _LONGEST_MINUTES:
        parser.error(f"--minutes: enter a number from 0.5 to {_LONGEST_MINUTES}")
    home = Path(tempfile.mkdtemp(prefix="cooee-chaos-"))
    home.chmod(0o755)  # PostgreSQL runs as another user when root starts it
    start = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - start:7.1f}  {line}", flush=True)

    try:
        with run_kafka() if options.kafka else nullcontext() as kafka:
            result = uvloop.run(run(options.seed, options.minutes * 60, home, say, kafka))
    except StackError as error:
        print(error, file=sys.stderr)
        print(f"the logs are in {home / 'logs'}", file=sys.stderr)
        return 2
    print("\n".join(lines(result)))
    if options.json:
        options.json.write_text(json.dumps(as_json(result), indent=2) + "\n")
    if result.violations or options.keep:
        print(f"the data and the logs of the stack are in {home}")
    else:
        shutil.rmtree(home, ignore_errors=True)
    print("VIOLATED" if result.violations else "all promises kept")
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
