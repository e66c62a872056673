"""The plan has the operators' page when its organisation is set, and not in benchmarks and tests."""

from pathlib import Path

from tools.embedded.environment import stack_environment
from tools.embedded.plan import cooee_plan


def test_operators_page_runs_where_its_organisation_is_set(tmp_path: Path) -> None:
    given = {"DATABASE_URL": "postgresql://127.0.0.1/cooee", "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    without = cooee_plan(tmp_path, stack_environment(tmp_path, given, free_ports=True))
    names = [process.name for process in without.processes]
    environment = stack_environment(tmp_path, {**given, "OPERATORS_ORGANISATION": "org_1"}, free_ports=True)
    added = [process for process in cooee_plan(tmp_path, environment).processes if process.name not in names]
    assert [(one.name, str(one.port)) for one in added] == [("operators' page", environment["OPERATORS_PORT"])]
    assert len(environment["OPERATORS_SECRET"]) >= 32
