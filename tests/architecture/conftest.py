"""The repository as the architecture tests read it."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("contacts", "scheduling", "delivery", "gateway")


def sources() -> Iterator[Path]:
    """Yield every Python file that runs in production."""
    yield from sorted((ROOT / "libs").glob("*/src/**/*.py"))
    yield from sorted((ROOT / "services").glob("*/src/**/*.py"))


def tracked() -> list[Path]:
    """Return every file that git tracks and that exists."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def suite_files() -> Iterator[Path]:
    """Yield every test file."""
    for top in ("libs", "services", "tools", "tests"):
        yield from sorted((ROOT / top).glob("**/test_*.py"))


def code_lines(path: Path) -> set[int]:
    """Return the numbers of the lines with code: no blank lines, comments or docstrings."""
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
