"""The language of the project: retired names stay retired, and pages cite only files and names that exist.

docs/glossary.md has the terms. A word that is retired only as a name (an identifier, a table) may still be used in a
sentence where it means what everybody means by it.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from .conftest import ROOT, tracked

# Words that are not part of any identifier. The plural is listed where it is used.
RETIRED_NAMES = {
    *("told", "tell", "tells", "hear", "hears", "heard", "whoever", "lapse", "lapsed", "lapses", "doubt", "doubts"),
    *("settle", "settled", "settles", "settlement", "settlements", "stranger", "strangers", "standing", "standings"),
    *("carrier", "carriers", "vendor", "vendors", "notice", "notices", "breaker", "pace", "patience", "roof", "roofs"),
    *("neighbour", "neighbours", "mend", "mended", "bury", "buried", "born", "stops", "stopped", "holds", "hold"),
    *("child", "children", "expansion", "expand", "expanded", "utils", "helpers", "misc", "manager"),
}
# Identifier → why it may have a retired word.
ALLOWED_NAMES = {
    "CircuitBreaker": "the field's name of the pattern",
    "child_count": "a field of the API's batch",
    "children": "subprocesses, or nodes of a document",
    "child": "a subprocess, or a node of a document",
    "stopped": "a process or a thread that has ended",
    "is_stopped": "a process or a thread that has ended",
    "stopped_at": "a clock of a test that stands still",
    "expanded": "a state of a user interface",
    "parents": "folders above a path",
    "appendChild": "the browser's own name",
    "replaceChildren": "the browser's own name",
}
RETIRED_TABLES = ("stops", "holds", "calls", "notices", "senders", "limits")
DIALECT = re.compile(
    r"\b(told|tells?|whoever|lapse[sd]?|settle[sd]?|strangers?|hears?|heard|mend(s|ed|ing)?|roofs?|born|bur(y|ied)"
    r"|as none|dear|of then|puts right|taken in|takes in|stands? beside|patience|vouch(es|ed)?)\b",
    re.IGNORECASE,
)
# File → phrases in it that a rule finds and that are right, with the reason.
ALLOWED_PHRASES: dict[str, tuple[str, ...]] = {
    "docs/glossary.md": ("told", "tell", "settle", "lapse", "hear", "patience"),  # it lists what is retired
    "docs/contributing.md": ("told", "settle", "lapse", "whoever"),  # it gives examples of what is retired
    "tests/architecture/test_language.py": (),
}
PAGES = (".md", ".html")
FORBIDDEN_SOURCES = re.compile(r"\b(bus|api|domain|house|language|speed)\.md\b|\bfacts/|\.\./shared")


def python_files() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py"]


def page_files() -> list[Path]:
    return [path for path in tracked() if path.suffix in PAGES]


def identifiers(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield every name that a file defines or uses as its own, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


@cache
def names_of(path: Path) -> frozenset[str]:
    """Return every word of a Python file, also those of its SQL."""
    return frozenset(re.findall(r"\w+", path.read_text()))


@cache
def production_files() -> list[Path]:
    return [path for path in python_files() if "tests" not in path.parts]


def words_of(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def prose(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the comments and docstrings of a Python file, or the lines of a page without its code."""
    return python_prose(path.read_text()) if path.suffix == ".py" else page_prose(path.read_text())


def page_prose(text: str) -> Iterator[tuple[str, int]]:
    in_code = False
    for number, line in enumerate(text.splitlines(), start=1):
        in_code ^= line.lstrip().startswith("```")
        if not in_code:
            yield re.sub(r"`[^`]*`", "", line), number


def python_prose(text: str) -> Iterator[tuple[str, int]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string, token.start[0]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            documentation = ast.get_docstring(node, clean=False)
            if documentation:
                yield documentation, getattr(node, "lineno", 1)


def test_no_identifier_has_a_retired_word() -> None:
    found = []
    for path in python_files():
        for name, line in identifiers(ast.parse(path.read_text())):
            retired = words_of(name) & RETIRED_NAMES
            if retired and name.strip("_") not in ALLOWED_NAMES:
                found.append(f"{path.relative_to(ROOT)}:{line} {name}")
    assert not found, "\n".join(["docs/glossary.md has the terms:", *found])


def test_no_statement_names_a_retired_table() -> None:
    pattern = re.compile(rf"\b(?:FROM|INTO|UPDATE|JOIN|TABLE)\s+({'|'.join(RETIRED_TABLES)})\b")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in python_files()
        for match in pattern.finditer(path.read_text())
        if path != Path(__file__)
    ]
    assert not found


def test_no_comment_docstring_or_page_has_a_word_of_the_old_dialect() -> None:
    found = []
    for path in [*python_files(), *page_files()]:
        name = str(path.relative_to(ROOT))
        allowed = ALLOWED_PHRASES.get(name, ())
        if path == Path(__file__):
            continue
        for text, line in prose(path):
            found += [
                f"{name}:{line} {match[0]}" for match in DIALECT.finditer(text) if match[0].lower() not in allowed
            ]
    assert not found, "\n".join(found)


def test_no_file_cites_a_document_that_is_not_in_the_repository() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked()
        if path.suffix in {*PAGES, ".py", ".yml", ".toml", ".sh", ".js", ".css", ".example"} and path != Path(__file__)
        for match in FORBIDDEN_SOURCES.finditer(path.read_text(errors="ignore"))
    ]
    assert not found


@pytest.mark.parametrize("path", page_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(path: Path) -> None:
    """Links, and names in backticks that have a folder and a suffix of ours."""
    text = path.read_text()
    named = re.findall(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)", text)
    missing = [name for name in named if not (path.parent / name).exists()]
    quoted = re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|md|yml|toml|json|sh|csv|css|js|html|txt|png|svg))`", text)
    places = [ROOT, path.parent, *(ROOT / "services").glob("*/src"), *(ROOT / "services").glob("*/src/*")]
    places += [ROOT / "libs/common/src", ROOT / "libs/common/src/common", ROOT / "docs"]
    missing += [name for name in quoted if not any((place / name).exists() for place in places)]
    assert not missing


@pytest.mark.parametrize("path", page_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_name_that_a_page_gives_exists(path: Path) -> None:
    """Names in backticks with an underscore are in the code or in a manifest.

    `name` in `file.py` is in a file of that name.
    """
    text, sources = path.read_text(), production_files()
    manifests = (ROOT / "deploy").glob("**/*.yaml")
    words = (re.findall(r"[a-z]+(?:_[a-z0-9]+)+", manifest.read_text()) for manifest in manifests)
    known = frozenset[str]().union(*map(names_of, sources), *words)
    missing = [name for name in re.findall(r"`([a-z]+(?:_[a-z0-9]+)+)`", text) if name not in known]
    for name, file in re.findall(r"`(\w+)`\s+in\s+`([\w./]+\.py)`", text):
        found = [source for source in sources if f"/{source.relative_to(ROOT)}".endswith(f"/{file}")]
        if not any(name in names_of(source) for source in found):
            missing.append(f"{name} in {file}")
    assert not [name for name in missing if not name.startswith("test_")]
