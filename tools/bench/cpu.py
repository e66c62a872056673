"""CPU time of the stack's processes, from /proc. The precision is that of the kernel's clock tick, 10 ms."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

GENERATOR = "load generator"
# These stand for the outside world: the provider, the issuer of session tokens, and the clients.
OUTSIDE = frozenset({"handset", "issuer", GENERATOR})
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Roots = Callable[[], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class ProcessTime:
    """A process: its parent's id, and the CPU seconds of itself and of those of its subprocesses that have ended."""

    parent: int
    seconds: float


def parse_stat(text: str, ticks_per_s: int = _TICKS_PER_S) -> ProcessTime:
    """Parse `/proc/<pid>/stat`. The name of the program is in brackets and may contain spaces and brackets."""
    fields = text.rpartition(")")[2].split()
    # utime, stime, cutime and cstime. The last two are of subprocesses that the process has waited for, such as the
    # backends of PostgreSQL that have ended.
    return ProcessTime(parent=int(fields[1]), seconds=sum(map(int, fields[11:15])) / ticks_per_s)


def read_processes(folder: Path = Path("/proc")) -> dict[int, ProcessTime]:
    """Return all processes of the machine by id. A process that ends meanwhile is left out."""
    found = {}
    for entry in folder.iterdir():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = parse_stat((entry / "stat").read_text())
            except OSError:
                continue
    return found


def sum_trees(processes: Mapping[int, ProcessTime], roots: Mapping[str, int]) -> dict[str, float]:
    """Return name → CPU seconds so far of the process with that id, its subprocesses, and theirs."""
    started_by: dict[int, list[int]] = {}
    for pid, process in processes.items():
        started_by.setdefault(process.parent, []).append(pid)
    sums = {}
    for name, root in roots.items():
        waiting, seconds = [root], 0.0
        while waiting:
            pid = waiting.pop()
            seconds += processes[pid].seconds if pid in processes else 0.0
            waiting += started_by.get(pid, [])
        sums[name] = seconds
    return sums


@dataclass
class CpuUse:
    """The CPU seconds of processes by name between two moments, and the time that passed."""

    wall_s: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)

    def per(self, count: float) -> dict[str, float]:
        """Return name → CPU-ms for each of `count` requests."""
        return {name: seconds * 1000 / max(count, 1) for name, seconds in self.seconds.items()}

    def shares(self) -> dict[str, float]:
        """Return name → share of a core."""
        return {name: seconds / max(self.wall_s, 1e-9) for name, seconds in self.seconds.items()}


@contextmanager
def measure_cpu(roots: Roots) -> Iterator[CpuUse]:
    """Measure the processes that `roots` names while the block runs. The result is complete when the block ends.

    A process that was restarted meanwhile counts from its restart. This process is measured as the load generator.
    """
    use = CpuUse()
    before_roots = roots()
    before = sum_trees(read_processes(), before_roots)
    started, own = time.perf_counter(), time.process_time()
    try:
        yield use
    finally:
        use.wall_s = time.perf_counter() - started
        own_s = time.process_time() - own
        after_roots = roots()
        after = sum_trees(read_processes(), after_roots)
        use.seconds = {
            name: seconds - (before[name] if before_roots.get(name) == after_roots[name] else 0.0)
            for name, seconds in after.items()
        }
        use.seconds[GENERATOR] = own_s


def total(by_process: Mapping[str, float]) -> float:
    """Return the sum of what belongs to the system."""
    return sum(value for name, value in by_process.items() if name not in OUTSIDE)
