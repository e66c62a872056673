"""The command line of the benchmark, and which stacks the chosen scenarios need."""

import pytest

from tools.bench.__main__ import BATCHES, NAMES, SINGLE_CALLS, choose, read_arguments


def test_without_a_choice_all_scenarios_are_measured_on_both_stacks() -> None:
    assert choose(None) == {"single calls": SINGLE_CALLS, "batches of 100": BATCHES}
    assert len(NAMES) == len(set(NAMES))


def test_chosen_scenarios_start_only_the_stacks_that_they_need() -> None:
    assert list(choose(["batches"])) == ["batches of 100"]
    chosen = choose(["search", "contacts"])
    assert {stack: list(scenarios) for stack, scenarios in chosen.items()} == {"single calls": ["contacts", "search"]}


def test_command_line_takes_several_names() -> None:
    arguments = read_arguments(["--quick", "--only", "due", "batches"])
    assert (arguments.quick, arguments.growth, arguments.only) == (True, False, ["due", "batches"])


def test_unknown_scenario_is_refused_with_the_known_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_arguments(["--only", "everything"])
    assert "'hammer'" in capsys.readouterr().err
