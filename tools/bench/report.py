"""Print figures with their ratios to yardsticks, and append each run to a history."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.bench.cpu import GENERATOR, OUTSIDE, CpuUse, total
from tools.bench.load import Load
from tools.bench.yardsticks import Yard, Yardstick

_ALL = "all of the system"
_SHOWN_SHARE = 0.01  # processes with less of the CPU time are not printed


@dataclass(frozen=True)
class Figure:
    """One measured value. `ratio` is the value divided by that of the yardstick, `cpu_ratio` the same for CPU time.

    `cpu_ms` are the CPU-ms of a request by process.
    """

    scenario: str
    name: str
    value: float
    unit: str
    yardstick: Yard | None = None
    ratio: float | None = None
    cpu_ms: Mapping[str, float] = field(default_factory=dict)
    cpu_ratio: float | None = None
    remark: str = ""

    def line(self) -> str:
        """Return the figure as it is printed."""
        text = f"{self.name}: {number(self.value)} {self.unit}"
        if self.ratio is not None:
            text += f" ({number(self.ratio)} × {self.yardstick})"
        if self.cpu_ms:
            ratio = "" if self.cpu_ratio is None else f" ({number(self.cpu_ratio)} × {self.yardstick})"
            text += f", {number(total(self.cpu_ms))} CPU-ms{ratio}: {by_process(self.cpu_ms)}"
        return f"{text}, {self.remark}" if self.remark else text

    def as_json(self) -> dict[str, Any]:
        """Return the figure for the history, without what it does not have."""
        fields: dict[str, Any] = {
            "scenario": self.scenario,
            "name": self.name,
            "value": rounded(self.value),
            "unit": self.unit,
            "yardstick": self.yardstick and str(self.yardstick),
            "ratio": rounded(self.ratio),
            "cpu_ms": rounded(total(self.cpu_ms)) if self.cpu_ms else None,
            "cpu_ratio": rounded(self.cpu_ratio),
            "cpu_ms_by_process": {name: rounded(value) for name, value in self.cpu_ms.items()} or None,
            "remark": self.remark or None,
        }
        return {name: value for name, value in fields.items() if value is not None}


def number(value: float) -> str:
    """Return a value with three significant digits, or as a whole number if it is large."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.2g}"


def rounded(value: float | None) -> float | None:
    """Return the value with six significant digits."""
    return None if value is None else float(f"{value:.6g}")


def by_process(cpu_ms: Mapping[str, float]) -> str:
    """Return the shares of the processes, the largest first. What is outside of the system comes last."""
    floor = total(cpu_ms) * _SHOWN_SHARE
    shown = [(name, value) for name, value in cpu_ms.items() if value > floor]
    shown.sort(key=lambda pair: (pair[0] in OUTSIDE, -pair[1]))
    return ", ".join(f"{name} {number(value)}" + (" outside" if name in OUTSIDE else "") for name, value in shown)


@dataclass
class Report:
    """The figures of one stack. Each is printed when it is added."""

    yardsticks: Mapping[Yard, Yardstick]
    scenario: str = ""
    figures: list[Figure] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def rate(
        self, name: str, value: float, unit: str, yard: Yard, *, cpu_ms: Mapping[str, float], remark: str = ""
    ) -> None:
        """Add a rate per second with the CPU time of one of what it counts."""
        yardstick = self.yardsticks[yard]
        self._add(
            Figure(
                scenario=self.scenario,
                name=name,
                value=value,
                unit=unit,
                yardstick=yard,
                ratio=value / yardstick.per_second,
                cpu_ms=cpu_ms,
                cpu_ratio=total(cpu_ms) / yardstick.cpu_ms,
                remark=remark,
            )
        )

    def latency(
        self, name: str, value_ms: float, yard: Yard, *, cpu_ms: Mapping[str, float] | None = None, remark: str = ""
    ) -> None:
        """Add a latency. It is compared with the median of the yardstick, which is steadier than its tail."""
        yardstick = self.yardsticks[yard]
        self._add(
            Figure(
                scenario=self.scenario,
                name=name,
                value=value_ms,
                unit="ms",
                yardstick=yard,
                ratio=value_ms / yardstick.p50_ms,
                cpu_ms=cpu_ms or {},
                cpu_ratio=total(cpu_ms) / yardstick.cpu_ms if cpu_ms else None,
                remark=remark,
            )
        )

    def load(self, name: str, load: Load, use: CpuUse, yard: Yard, *, remark: str = "") -> None:
        """Add the rate of a load with its CPU time per request, its median and its 99th percentile."""
        remarks = ", ".join(filter(None, (remark, load.failures)))
        self.rate(name, load.per_second, "requests/s", yard, cpu_ms=use.per(load.successes), remark=remarks)
        self.latency(f"{name}, p50", load.quantile_ms(0.5), yard)
        self.latency(f"{name}, p99", load.quantile_ms(0.99), yard)

    def idle(self, use: CpuUse) -> None:
        """Add the share of a core that each process uses, and how many bare round trips would cost as much."""
        shares = {name: share for name, share in use.shares().items() if name != GENERATOR}
        cost_ms = self.yardsticks[Yard.ROUND_TRIPS_32].cpu_ms
        for name, share in [*sorted(shares.items()), (_ALL, total(shares))]:
            self._add(
                Figure(
                    scenario=self.scenario,
                    name=f"idle, {name}",
                    value=share * 100,
                    unit="% of a core",
                    yardstick=Yard.ROUND_TRIPS_32,
                    ratio=share * 1000 / cost_ms,
                    remark="as many round trips a second cost the same" if name == _ALL else "",
                )
            )

    def plain(self, name: str, value: float, unit: str, *, remark: str = "") -> None:
        """Add a value that no yardstick fits, such as a size or a ratio."""
        self._add(Figure(scenario=self.scenario, name=name, value=value, unit=unit, remark=remark))

    def fail(self, reason: str) -> None:
        """Add that the present scenario could not be measured to its end."""
        self.failed[self.scenario] = reason
        print(f"  {self.scenario}: NOT MEASURED: {reason}", flush=True)

    def as_json(self) -> dict[str, Any]:
        """Return the figures for the history."""
        return {
            "yardsticks": {str(yard): yardstick.as_json() for yard, yardstick in self.yardsticks.items()},
            "figures": [figure.as_json() for figure in self.figures],
            "failed": self.failed,
        }

    def _add(self, figure: Figure) -> None:
        self.figures.append(figure)
        print("  " + figure.line(), flush=True)


def yardstick_lines(before: Mapping[Yard, Yardstick], after: Mapping[Yard, Yardstick] | None = None) -> list[str]:
    """Return the lines of the yardsticks. With `after`, each has the ratio of its rate to that of the first time."""
    lines = []
    for yard, yardstick in (after or before).items():
        text = f"{yard}: {number(yardstick.per_second)}/s, {number(yardstick.cpu_ms)} CPU-ms"
        if yardstick.p50_ms:
            text += f", p50 {number(yardstick.p50_ms)} ms, p99 {number(yardstick.p99_ms)} ms"
        if after:
            text += f", {yardstick.per_second / before[yard].per_second:.2f} × before"
        lines.append(text)
    return lines


@dataclass(frozen=True)
class Run:
    """What a run of the benchmark was made of. `load` is the machine's load average before it.

    `api_workers` is the number of processes of each API.
    """

    commit: str
    is_clean: bool
    cores: int
    api_workers: int
    load: float
    scale: float
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    def history_line(self, stacks: Mapping[str, Mapping[str, Any]]) -> str:
        """Return the run as one line of JSON. `stacks` has the figures by the name of their stack."""
        fields = {
            "date": self.started.isoformat(timespec="seconds"),
            "commit": self.commit,
            "is_clean": self.is_clean,
            "cores": self.cores,
            "api_workers": self.api_workers,
            "load": round(self.load, 2),
            "scale": self.scale,
            "stacks": stacks,
        }
        return json.dumps(fields, ensure_ascii=False)


def append_history(path: Path, line: str) -> None:
    """Append a run to the history."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(line + "\n")
