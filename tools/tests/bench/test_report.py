"""Figures with their ratios to yardsticks, and the line of a run in the history."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tools.bench.cpu import GENERATOR, CpuUse
from tools.bench.load import Load
from tools.bench.report import Report, Run, append_history, number, yardstick_lines
from tools.bench.yardsticks import Yard, Yardstick

YARDSTICKS = {yard: Yardstick(per_second=4000, cpu_ms=0.5, p50_ms=2.0, p99_ms=10.0) for yard in Yard}


@pytest.fixture
def report() -> Report:
    """Return the report of a stack whose yardsticks are all alike."""
    return Report(YARDSTICKS, scenario="contacts")


@pytest.mark.parametrize(
    ("value", "shown"), [(12345.6, "12,346"), (123.4, "123"), (12.34, "12.3"), (0.1234, "0.123"), (0.00012, "0.00012")]
)
def test_number_has_three_significant_digits(value: float, shown: str) -> None:
    assert number(value) == shown


def test_rate_is_printed_with_its_ratio_and_the_largest_process_first(
    report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    cpu_ms = {"gateway": 0.5, "contacts api": 1.5, "issuer": 0.0, "broker": 0.01, "handset": 0.3, GENERATOR: 0.1}
    report.rate("GET contacts", 800, "requests/s", Yard.PROXY_32, cpu_ms=cpu_ms)
    assert capsys.readouterr().out == (
        "  GET contacts: 800 requests/s (0.2 × proxy at 32), 2.01 CPU-ms (4.02 × proxy at 32): "
        "contacts api 1.5, gateway 0.5, handset 0.3 outside, load generator 0.1 outside\n"
    )


def test_latency_is_compared_with_the_median_of_the_yardstick(report: Report) -> None:
    report.latency("contacts, p99", 50.0, Yard.PROXY)
    report.latency("contacts, p50", 6.0, Yard.PROXY, cpu_ms={"gateway": 1.0})
    assert [(figure.ratio, figure.cpu_ratio) for figure in report.figures] == [(25.0, None), (3.0, 2.0)]


def test_load_has_a_rate_two_quantiles_and_its_failures(report: Report) -> None:
    load = Load(seconds=2.0, latencies_s=[0.01] * 98 + [0.2] * 2)
    load.statuses.update({200: 98, 503: 2})
    report.load("GET contacts", load, CpuUse(2.0, {"gateway": 0.196}), Yard.PROXY_32)
    rate, p50, p99 = report.figures
    assert (rate.value, rate.cpu_ms) == (49.0, {"gateway": 2.0})
    assert rate.remark == "NOT ALL SUCCESSFUL: {503: 2}"
    assert (p50.value, p99.value) == (10.0, 200.0)


def test_idle_share_is_compared_with_round_trips_of_the_same_cost(report: Report) -> None:
    report.idle(CpuUse(10.0, {"gateway": 0.1, "postgres": 0.2, "handset": 5.0, GENERATOR: 1.0}))
    shown = {figure.name: (round(figure.value, 6), round(figure.ratio or 0, 6)) for figure in report.figures}
    assert shown == {
        "idle, gateway": (1.0, 20.0),
        "idle, handset": (50.0, 1000.0),
        "idle, postgres": (2.0, 40.0),
        "idle, all of the system": (3.0, 60.0),
    }


def test_yardsticks_at_the_end_show_how_the_machine_changed() -> None:
    after = {Yard.COPY: Yardstick(per_second=3000, cpu_ms=0.5)}
    assert yardstick_lines(YARDSTICKS, after) == ["COPY: 3,000/s, 0.5 CPU-ms, 0.75 × before"]
    assert yardstick_lines(YARDSTICKS)[0] == "round trip: 4,000/s, 0.5 CPU-ms, p50 2 ms, p99 10 ms"


def test_history_has_one_line_of_json_for_each_run(report: Report, tmp_path: Path) -> None:
    report.rate("GET contacts", 800, "requests/s", Yard.PROXY_32, cpu_ms={"gateway": 0.5, GENERATOR: 0.1})
    report.plain("memory, gateway", 60.5, "MB")
    report.scenario = "large"
    report.fail("no answer")
    run = Run(
        "0123abc",
        is_clean=True,
        cores=2,
        api_workers=1,
        load=0.123,
        scale=1.0,
        started=datetime(2026, 11, 28, tzinfo=UTC),
    )
    for _ in range(2):
        append_history(tmp_path / "new/history.jsonl", run.history_line({"single calls": report.as_json()}))
    first, second = (json.loads(line) for line in (tmp_path / "new/history.jsonl").read_text().splitlines())
    assert first == second
    stack = first.pop("stacks")["single calls"]
    assert first == {
        "date": "2026-11-28T00:00:00+00:00",
        "commit": "0123abc",
        "is_clean": True,
        "cores": 2,
        "api_workers": 1,
        "load": 0.12,
        "scale": 1.0,
    }
    assert stack["yardsticks"]["COPY"] == {"per_second": 4000, "cpu_ms": 0.5, "p50_ms": 2.0, "p99_ms": 10.0}
    assert stack["failed"] == {"large": "no answer"}
    assert stack["figures"] == [
        {
            "scenario": "contacts",
            "name": "GET contacts",
            "value": 800.0,
            "unit": "requests/s",
            "yardstick": "proxy at 32",
            "ratio": 0.2,
            "cpu_ms": 0.5,
            "cpu_ratio": 1.0,
            "cpu_ms_by_process": {"gateway": 0.5, GENERATOR: 0.1},
        },
        {"scenario": "contacts", "name": "memory, gateway", "value": 60.5, "unit": "MB"},
    ]
