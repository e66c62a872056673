"""Limits on the size of files and functions, in lines of code."""

import ast
from pathlib import Path

import pytest

from .conftest import ROOT, code_lines, sources, suite_files

FILE, TEST_FILE, FUNCTION = 350, 450, 45
LIMITS = {"service.py": 250, "app.py": 60, "worker.py": 60}
# Raised from 25 and 2200 for the hot paths of the API: statements, pool, pages, counters, wakes, lean routes.
# Raised again for metrics and readings: every process counts the same things.
# Raised again for traces and reports of errors: they pass through every process.
# Raised again for the files of secrets, the draining of an API and the time-outs of migrations.
# Raised again for retention: one mechanism that every worker has.
# Raised again for moved rows: three services store which row of an earlier system became which.
# Raised again for erased opt-outs, which two services store, and for the deadline of a worker's shutdown.
COMMON_MODULES, COMMON_LINES = 49, 4600


def limit_of(path: Path) -> int:
    if path.parent.name == "providers":
        return 300  # with its settings, which live in its file
    # The app.py and worker.py of common are the implementation, not a table of contents.
    return FILE if "common" in path.parts else LIMITS.get(path.name, FILE)


@pytest.mark.parametrize("path", list(sources()), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_source_file_stays_within_its_limit(path: Path) -> None:
    assert len(code_lines(path)) <= limit_of(path)


@pytest.mark.parametrize("path", list(suite_files()), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_test_file_stays_within_its_limit(path: Path) -> None:
    assert len(code_lines(path)) <= TEST_FILE


def test_no_function_is_longer_than_the_limit() -> None:
    long = []
    for path in sources():
        lines = code_lines(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = sum(node.lineno <= number <= (node.end_lineno or 0) for number in lines)
                if size > FUNCTION:
                    long.append(f"{path.relative_to(ROOT)}:{node.name}: {size}")
    assert not long


def test_common_stays_small() -> None:
    modules = [path for path in (ROOT / "libs/common/src").glob("**/*.py") if path.name != "__init__.py"]
    assert len(modules) <= COMMON_MODULES
    assert sum(len(code_lines(path)) for path in modules) <= COMMON_LINES
