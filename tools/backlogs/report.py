"""The figures and the violations of a run, as lines and as JSON."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured value of a scenario."""

    scenario: str
    name: str
    value: float
    unit: str = ""


@dataclass
class Report:
    """The figures of all scenarios, and the promises that were not kept."""

    figures: list[Figure] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def value(self, scenario: str, name: str) -> float:
        """Return a figure. Raises KeyError when the scenario has none with this name."""
        for figure in self.figures:
            if (figure.scenario, figure.name) == (scenario, name):
                return figure.value
        raise KeyError(f"{scenario}: {name}")

    def as_json(self) -> dict[str, Any]:
        """Return the figures by scenario and name, and the violations."""
        scenarios: dict[str, dict[str, Any]] = {}
        for figure in self.figures:
            name = f"{figure.name} ({figure.unit})" if figure.unit else figure.name
            scenarios.setdefault(figure.scenario, {})[name] = figure.value
        return {"scenarios": scenarios, "violations": self.violations}

    def lines(self) -> list[str]:
        """Return the table for people."""
        shown, last = [], ""
        for figure in self.figures:
            if figure.scenario != last:
                shown.append(figure.scenario)
                last = figure.scenario
            shown.append(
                f"  {figure.name:<66}{figure.value:>12,.{0 if figure.value == int(figure.value) else 2}f} {figure.unit}"
            )
        return [*shown, *(f"VIOLATED  {violation}" for violation in self.violations)]


class Section:
    """The part of a report that belongs to one scenario."""

    def __init__(self, report: Report, scenario: str) -> None:
        self.report, self.scenario = report, scenario

    def add(self, name: str, value: float, unit: str = "") -> None:
        """Add a figure, rounded to two decimals."""
        self.report.figures.append(Figure(self.scenario, name, round(value, 2), unit))

    def require(self, condition: bool, violation: str) -> None:
        """Add a violation unless the condition is true."""
        if not condition:
            self.report.violations.append(f"{self.scenario}: {violation}")
