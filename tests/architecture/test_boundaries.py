"""Where transactions begin, who may import a repository, and what no file may contain."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from .conftest import ROOT, sources

BEGINS = {"tenant", "all_tenants", "in_transaction", "consume", "transaction"}
# Functions that take any number of values of one kind.
ANY_NUMBER = {
    *("gather", "chain", "union", "min", "max", "zip", "partial", "join", "print", "digest"),
    *("fetch", "fetch_row"),
}
BEGIN_FILES = {"consumers.py", "loops.py"}
# The entry points of common, and the wait for an outcome of a send.
BEGIN_PATHS = {
    "libs/common/src/common/statements.py",
    "libs/common/src/common/bus.py",
    "libs/common/src/common/database.py",
    "libs/common/src/common/idempotency.py",
    "libs/common/src/common/readings.py",
    "libs/common/src/common/relay.py",
    "libs/common/src/common/retention.py",
    "libs/common/src/common/http/app.py",
    "libs/common/src/common/http/deps.py",
    "libs/common/src/common/worker.py",
    "libs/common/src/common/migrations.py",
    "libs/operator/src/cooee/stack.py",
    "libs/operator/src/cooee/moving_in/source.py",  # the database of an earlier system, which is only read
    "services/scheduling/src/scheduling/sends/api.py",
}


def calls(path: Path) -> set[str]:
    return {
        node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name)
    }


@pytest.mark.parametrize("path", list(sources()), ids=lambda p: str(p.relative_to(ROOT)))
def test_transactions_begin_at_the_edges_and_use_cases_never_commit(path: Path) -> None:
    used = calls(path) - ({"transaction"} if path.name == "api.py" else set())
    if str(path.relative_to(ROOT)) in BEGIN_PATHS or path.name in BEGIN_FILES:
        return
    assert not used & {"commit", "begin"}, "a use case takes a session and never commits"
    assert not used & BEGINS, "transactions begin in consumers.py, loops.py and the HTTP session"


def test_a_repository_is_imported_by_its_own_feature_alone() -> None:
    wrong = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                match = re.fullmatch(r"(\w+)\.(\w+)\.(repository|lists|submissions)(\..*)?", name)
                if match and match[2] != path.parent.name:
                    wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_a_feature_imports_only_service_schemas_and_rules_of_another() -> None:
    features = {path.parent for path in sources() if path.name == "service.py"}
    wrong = []
    for path in (path for path in sources() if path.parent in features):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            service, feature, *rest = [*node.module.split("."), "", ""][:3]
            other = path.parents[1] / feature
            if service == path.parents[1].name and other in features and other != path.parent:
                names = [part for part in rest if part] or [alias.name for alias in node.names]
                allowed = {"service", "schemas", "rules"}
                wrong += [f"{path.relative_to(ROOT)}: {node.module} {name}" for name in names if name not in allowed]
    assert not wrong


def test_calls_with_five_or_more_values_use_keywords() -> None:
    """A call with many positional values can swap two of them unnoticed."""
    wrong = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and sum(not isinstance(value, ast.Starred) for value in node.args) >= 5:
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "?")
                if name not in ANY_NUMBER:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {name}")
    assert not wrong


def test_no_module_lists_names_to_export_again() -> None:
    found = [str(path.relative_to(ROOT)) for path in sources() if "__all__" in path.read_text()]
    assert not found


def folders_of_this_machine(*folders: Path) -> re.Pattern[str]:
    """Return a pattern that finds these folders in a text, as whole paths.

    A folder directly under the root, as /app or /root, says nothing about a machine: images have it, too.
    """
    names = [re.escape(str(folder)) for folder in folders if len(folder.parts) > 2]
    return re.compile(rf"(?<![\w.~/-])(?:{'|'.join(names) or '(?!)'})(?![\w.-])")


def test_a_folder_of_this_machine_is_found_only_as_a_whole_path() -> None:
    found = folders_of_this_machine(Path("/tmp/cooee"), Path("/home/ana"), Path("/root"))
    for text in ("cd /tmp/cooee", '"/tmp/cooee/README.md"', "file:/home/ana/x"):
        assert found.search(text), text
    for text in ("/tmp/services.txt", "/tmp/cooee2", "/opt/tmp/cooee", "/home/anatol", "/root/.cache"):
        assert not found.search(text), text
    assert not folders_of_this_machine(Path("/app")).search("COPY x /app and nothing")


def test_no_file_names_a_package_registry_or_a_path_of_a_machine() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    hosts = re.compile(r"registry\.npmjs|pypi\.org|pythonhosted|repo1\.maven|proxy\.golang|deb\.debian", re.I)
    folders = folders_of_this_machine(ROOT, Path.home())
    found = []
    for name in filter(None, tracked.split("\0")):
        path = ROOT / name
        if path == Path(__file__) or not path.is_file():
            continue
        text = path.read_text(errors="ignore")
        if hosts.search(text) or folders.search(text):
            found.append(name)
    assert not found
