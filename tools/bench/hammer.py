"""Keep 32 requests in flight, in a process of its own: `python -m tools.bench.hammer HOST PORT SECONDS <request`.

Prints the number of successful requests, their rate, and the failures as JSON.
"""

import json
import sys

import uvloop

from tools.bench.load import Address, run_load
from tools.bench.yardsticks import CONNECTIONS


async def main(host: str, port: int, seconds: float, request: bytes) -> None:
    """Send the request again and again, and print the result."""
    load = await run_load(Address(host, port), CONNECTIONS, lambda _: request, seconds=seconds)
    print(json.dumps({"per_second": load.per_second, "successes": load.successes, "failures": load.failures}))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.stdin.buffer.read()))
