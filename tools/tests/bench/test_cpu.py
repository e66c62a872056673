"""CPU time by process, from texts as /proc has them."""

import os
import time
from pathlib import Path

from tools.bench.cpu import GENERATOR, CpuUse, ProcessTime, measure_cpu, parse_stat, read_processes, sum_trees, total


def stat(pid: int, parent: int, *ticks: int, name: str = "python") -> str:
    """Return the text of /proc/<pid>/stat with utime, stime, cutime and cstime in ticks."""
    times = " ".join(map(str, ticks))
    return f"{pid} ({name}) S {parent} {pid} {pid} 0 -1 4194304 5000 0 0 0 {times} 20 0 4 0 123456 300000000 9000\n"


def test_stat_of_a_process_sums_own_time_and_that_of_ended_subprocesses() -> None:
    assert parse_stat(stat(10, 1, 150, 50, 25, 75), 100) == ProcessTime(parent=1, seconds=3.0)


def test_stat_with_brackets_and_spaces_in_the_program_name_is_parsed() -> None:
    assert parse_stat(stat(10, 7, 100, 0, 0, 0, name="postgres: tenant (idle) x"), 100) == ProcessTime(7, 1.0)


def test_folder_of_processes_is_read_without_other_entries_and_ended_processes(tmp_path: Path) -> None:
    (tmp_path / "10").mkdir()
    (tmp_path / "10/stat").write_text(stat(10, 1, 100, 0, 0, 0))
    (tmp_path / "11").mkdir()  # it ended after the folder was listed
    (tmp_path / "self").mkdir()
    assert list(read_processes(tmp_path)) == [10]


def test_tree_of_a_process_includes_all_its_descendants_and_no_others() -> None:
    processes = {
        10: ProcessTime(1, 5.0),  # the postmaster, with the backends that have ended
        11: ProcessTime(10, 1.0),
        12: ProcessTime(11, 0.5),
        20: ProcessTime(1, 2.0),
        30: ProcessTime(1, 9.0),
    }
    assert sum_trees(processes, {"postgres": 10, "gateway": 20}) == {"postgres": 6.5, "gateway": 2.0}


def test_tree_of_a_process_that_ended_is_empty() -> None:
    assert sum_trees({}, {"gateway": 20}) == {"gateway": 0.0}


def test_ended_backend_stays_counted_in_its_postmaster() -> None:
    before = {10: ProcessTime(1, 1.0), 11: ProcessTime(10, 2.0)}
    after = {10: ProcessTime(1, 1.0 + 2.5)}
    roots = {"postgres": 10}
    assert sum_trees(after, roots)["postgres"] - sum_trees(before, roots)["postgres"] == 0.5


def test_use_per_request_is_in_milliseconds_and_the_total_is_without_the_outside_world() -> None:
    use = CpuUse(wall_s=2.0, seconds={"gateway": 0.5, "postgres": 1.5, "handset": 7.0, GENERATOR: 3.0})
    assert use.per(1000) == {"gateway": 0.5, "postgres": 1.5, "handset": 7.0, GENERATOR: 3.0}
    assert total(use.per(1000)) == 2.0
    assert use.shares()["postgres"] == 0.75


def test_busy_block_costs_this_process_time() -> None:
    started = time.process_time()
    with measure_cpu(lambda: {"this": os.getpid()}) as use:
        while time.process_time() - started < 0.05:
            sum(range(1000))
    assert use.seconds["this"] > 0
    assert use.seconds[GENERATOR] > 0
    assert use.wall_s > 0


def test_process_that_was_restarted_counts_from_its_restart() -> None:
    pids = iter(({"gateway": -1}, {"gateway": os.getpid()}))
    with measure_cpu(lambda: next(pids)) as use:
        pass
    assert use.seconds["gateway"] > 0
