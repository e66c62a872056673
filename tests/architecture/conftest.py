"""The repository as the tests of its shape see it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("contacts", "scheduling", "delivery", "gateway")


def sources() -> Iterator[Path]:
    """Every Python file that runs in production."""
    yield from sorted((ROOT / "libs").glob("*/src/**/*.py"))
    yield from sorted((ROOT / "services").glob("*/src/**/*.py"))


def suite_files() -> Iterator[Path]:
    for top in ("libs", "services", "tools", "tests"):
        yield from sorted((ROOT / top).glob("**/test_*.py"))


def code_lines(path: Path) -> set[int]:
    """The numbers of the lines that hold code: no blanks, comments or docstrings."""
    text = path.read_text()
    tree = ast.parse(text)
    documentation: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            documentation |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return {
        number
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.strip().startswith("#") and number not in documentation
    }


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT
