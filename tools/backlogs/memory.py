"""Sample the resident memory of processes during a scenario."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.backlogs.report import Section
from tools.embedded.supervisor import Stack

FLAT_MB = 64.0
"""The growth up to which memory counts as flat: buffers of a full batch, not the backlog itself."""
WORKERS = ("contacts worker", "scheduling worker", "delivery worker")
_INTERVAL_S = 0.5


class Memory:
    """Samples processes from the beginning to the end of a block, and reports how much each grew."""

    def __init__(self, stack: Stack, section: Section, names: Sequence[str] = WORKERS) -> None:
        self._stack, self._section, self._names = stack, section, names
        self._first: dict[str, float] = {}
        self._peak: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Take the first sample."""
        self._first = dict(self._sample())
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the last sample, and add the figures."""
        if self._task:
            self._task.cancel()
        self._add_peaks()
        for name, peak in self._peak.items():
            grown = peak - self._first.get(name, peak)
            self._section.add(f"memory of {name}, at the beginning", self._first.get(name, peak), "MB")
            self._section.add(f"memory of {name}, largest", peak, "MB")
            self._section.require(grown <= FLAT_MB, f"{name} grew by {grown:.0f} MB, more than {FLAT_MB:.0f} MB")

    async def _run(self) -> None:
        while True:
            self._add_peaks()
            await asyncio.sleep(_INTERVAL_S)

    def _add_peaks(self) -> None:
        for name, size in self._sample().items():
            self._peak[name] = max(size, self._peak.get(name, 0.0))

    def _sample(self) -> Mapping[str, float]:
        sizes = {name: _resident_mb(self._stack.pid(name)) for name in self._names}
        return {name: size for name, size in sizes.items() if size}


def _resident_mb(pid: int) -> float:
    """Return the resident size of a process, or 0 when it does not run."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), 0.0)
