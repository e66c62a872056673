"""The plan of a chaos run: which fault happens when, to which process or connection. A seed determines the plan."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

LINKS = ("postgres", "handset", "contacts api", "scheduling api", "delivery api")
"""The processes whose callers connect through a proxy."""
BROKER = "broker"
PROCESSES = (*LINKS, "gateway", "contacts worker", "scheduling worker", "delivery worker", BROKER)

_GAP_S = (2.0, 6.0)
_FREEZE_S = (5.0, 20.0)
_CUT_S = (0.2, 3.0)
_SLOW_S = (3.0, 12.0)
_DELAY_S = (0.05, 0.5)
_FIRST_S = 2.0


class FaultKind(StrEnum):
    """What a fault does to its target."""

    KILL = "kill"
    """SIGKILL. The supervisor starts the process again."""
    FREEZE = "freeze"
    """SIGSTOP to the process and its subprocesses, and SIGCONT after the duration."""
    STOP = "stop"
    """The signal that asks the process to stop in order. The supervisor starts it again."""
    CUT = "cut"
    """The connections to the target are reset, and new ones are refused for the duration."""
    SLOW = "slow"
    """The connections to the target deliver each piece of their bytes with a delay, for the duration."""


@dataclass(frozen=True)
class Fault:
    """One fault. `at_s` counts from the start of the load. `delay_s` is for SLOW only."""

    at_s: float
    kind: FaultKind
    target: str
    duration_s: float = 0.0
    delay_s: float = 0.0

    @property
    def end_s(self) -> float:
        """The time at which the fault is over."""
        return self.at_s + self.duration_s

    def describe(self) -> str:
        """Return the fault as a line for people."""
        more = f" for {self.duration_s:.1f} s" if self.duration_s else ""
        delay = f", {self.delay_s * 1000:.0f} ms" if self.delay_s else ""
        return f"{self.at_s:6.1f} s  {self.kind:<7} {self.target}{more}{delay}"


def make_plan(seed: int, duration_s: float, processes: Sequence[str] = PROCESSES) -> list[Fault]:
    """Return the faults of a run in order. All are over before `duration_s`. `processes` can be killed and frozen.

    The first faults are one of each kind. Then each kind happens to each of its targets, in random order, again and
    again. A target gets no second fault while one lasts.
    """
    random = Random(f"{seed}/faults")
    faults: list[Fault] = []
    deck = _first_of_each(random, processes)
    at_s = _FIRST_S
    while True:
        deck = deck or _deck(random, processes)
        kind, target = deck.pop()
        duration_s_of_fault = _duration(random, kind)
        delay_s = random.uniform(*_DELAY_S) if kind is FaultKind.SLOW else 0.0
        busy_until = max((fault.end_s for fault in faults if fault.target == target), default=0.0)
        fault = Fault(max(at_s, busy_until), kind, target, duration_s_of_fault, delay_s)
        if fault.at_s > duration_s:
            return faults
        if fault.end_s <= duration_s:
            faults.append(fault)
        at_s = fault.at_s + random.uniform(*_GAP_S)


def _first_of_each(random: Random, processes: Sequence[str]) -> list[tuple[FaultKind, str]]:
    first = [(kind, random.choice(_targets(kind, processes))) for kind in FaultKind]
    random.shuffle(first)
    return first


def _deck(random: Random, processes: Sequence[str]) -> list[tuple[FaultKind, str]]:
    deck = [(kind, target) for kind in FaultKind for target in _targets(kind, processes)]
    random.shuffle(deck)
    return deck


def _targets(kind: FaultKind, processes: Sequence[str]) -> Sequence[str]:
    return LINKS if kind in (FaultKind.CUT, FaultKind.SLOW) else processes


def _duration(random: Random, kind: FaultKind) -> float:
    ranges = {FaultKind.FREEZE: _FREEZE_S, FaultKind.CUT: _CUT_S, FaultKind.SLOW: _SLOW_S}
    return random.uniform(*ranges[kind]) if kind in ranges else 0.0
