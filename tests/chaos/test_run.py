"""A short chaos run with at least one fault of each kind keeps every promise."""

import os
from pathlib import Path

import pytest

from tools.chaos.plan import FaultKind
from tools.chaos.report import as_json, lines
from tools.chaos.run import run

pytestmark = pytest.mark.stack

# Continuous integration sets CHAOS_S=180.
SEED, LOAD_S = 15, float(os.environ.get("CHAOS_S", "45"))


async def test_short_run_with_each_kind_of_fault_keeps_every_promise(tmp_path: Path) -> None:
    home = tmp_path / "stack"
    result = await run(SEED, LOAD_S, home, print)
    report = "\n".join(lines(result))
    assert {fault.kind for fault in result.injected} == set(FaultKind), report
    assert result.violations == [], report
    figures = as_json(result)
    assert figures["idle_s"] is not None, report
    # A run in which little happened would prove nothing.
    assert figures["accepted"] > 50, report
    assert figures["arrived"] > 100, report
    assert figures["repeated"] > 0, report
