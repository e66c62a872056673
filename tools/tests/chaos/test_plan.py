"""The plan of faults follows from the seed alone, and covers every kind and target."""

from itertools import pairwise

from tools.chaos.plan import BROKER, LINKS, PROCESSES, FaultKind, make_plan


def test_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    assert make_plan(7, 120) == make_plan(7, 120)
    assert make_plan(7, 120) != make_plan(8, 120)


def test_short_run_has_each_kind_of_fault() -> None:
    for seed in range(50):
        plan = make_plan(seed, 60)
        assert {fault.kind for fault in plan} == set(FaultKind), seed
        assert all(fault.end_s <= 60 for fault in plan)
        assert [fault.at_s for fault in plan] == sorted(fault.at_s for fault in plan)


def test_long_run_does_every_fault_to_every_target() -> None:
    found = {(fault.kind, fault.target) for fault in make_plan(1, 600)}
    for_processes = {(kind, name) for kind in (FaultKind.KILL, FaultKind.FREEZE, FaultKind.STOP) for name in PROCESSES}
    for_links = {(kind, name) for kind in (FaultKind.CUT, FaultKind.SLOW) for name in LINKS}
    assert found == for_processes | for_links


def test_target_has_one_fault_at_a_time() -> None:
    plan = make_plan(3, 600)
    for name in PROCESSES:
        own = [fault for fault in plan if fault.target == name]
        assert all(fault.end_s <= following.at_s for fault, following in pairwise(own))


def test_process_that_is_left_out_has_no_fault() -> None:
    plan = make_plan(1, 600, [name for name in PROCESSES if name != BROKER])
    assert {fault.target for fault in plan} == set(PROCESSES) - {BROKER}
