"""Scenarios of what the stack uses: CPU time while it is idle, and memory."""

import asyncio
from pathlib import Path

from tools.bench.bench import Bench
from tools.bench.cpu import measure_cpu

_QUIET_S = 5.0
_IDLE_S = 10.0


async def idle(bench: Bench) -> None:
    """Measure the CPU time of each process during 10 s without requests, as a share of a core."""
    await asyncio.sleep(_QUIET_S)  # the work of the scenario before has ended
    with measure_cpu(bench.pids) as use:
        await asyncio.sleep(_IDLE_S)
    bench.report.idle(use)


async def memory(bench: Bench) -> None:
    """Add the largest resident size of each process.

    For PostgreSQL it is the present size of all its processes, with shared memory counted once.
    """
    for name, pid in bench.pids().items():
        try:
            kilobytes = _postgres_kb(pid) if name == "postgres" else _field_kb(Path(f"/proc/{pid}/status"), "VmHWM")
        except OSError:
            continue
        bench.report.plain(f"memory, {name}", kilobytes / 1024, "MB")


def _postgres_kb(pid: int) -> int:
    backends = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(_field_kb(Path(f"/proc/{process}/smaps_rollup"), "Pss") for process in (str(pid), *backends))


def _field_kb(file: Path, field: str) -> int:
    return next((int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith(f"{field}:")), 0)
