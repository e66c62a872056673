"""Every service has the same file names (rooms): a room that is not needed is absent, never empty or renamed."""

import ast
from pathlib import Path

import pytest

from .conftest import ROOT, SERVICES, code_lines, sources

TOP = {"__init__", "__main__", "settings", "errors", "models", "app", "worker", "metrics", "retention"}
FEATURE = {"__init__", "api", "schemas", "service", "repository", "rules", "consumers", "loops"}
# Further rooms with one purpose; docs/architecture.md names them.
SPECIAL = {
    ("delivery", "sending"): {"provider_worker", "submissions", "routing", "throttling"},
    ("delivery", "messages"): {"lists"},
    ("contacts", "contacts"): {"lists"},
    ("scheduling", "schedules"): {"media_urls"},
    ("gateway", "v1"): {"names", "translate", "middleware", "document"},
    ("contacts", "imports"): {"csv_file", "csv_header", "csv_rows", "jobs", "turns"},
}
PORTS = {("delivery", "providers"), ("delivery", "storage")}
GATEWAY = {
    "auth",
    "identity",
    "routes",
    "proxy",
    "throttles",
    "docs",
    "health",
    "edge",
    "keys",
    "openapi",
    "openapi_errors",
    "slots",
}
FORBIDDEN = {"utils", "helpers", "misc", "manager", "handler", "data", "info", "process", "words"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_only_known_rooms(service: str) -> None:
    source = ROOT / "services" / service / "src" / service
    assert (ROOT / "services" / service / "README.md").exists()
    allowed = TOP | (GATEWAY if service == "gateway" else set())
    assert {p.stem for p in source.glob("*.py")} <= allowed
    for room in (p for p in source.iterdir() if p.is_dir() and p.name not in ("__pycache__", "assets", "clients")):
        if (service, room.name) in PORTS:
            assert (room / "base.py").exists()
            continue
        assert {p.stem for p in room.glob("*.py")} <= FEATURE | SPECIAL.get((service, room.name), set()), room


@pytest.mark.parametrize("path", list(sources()), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_room_is_empty_or_has_a_vague_name(path: Path) -> None:
    assert path.stem not in FORBIDDEN
    assert path.name == "__init__.py" or code_lines(path)


def test_migrations_are_numbered_and_linear() -> None:
    for service in SERVICES[:3]:
        files = sorted((ROOT / "services" / service / "migrations" / "versions").glob("*.py"))
        previous = None
        for number, file in enumerate(files, start=1):
            assert file.name.startswith(f"{number:04d}_"), file
            names = {
                node.targets[0].id: ast.literal_eval(node.value)
                for node in ast.parse(file.read_text()).body
                if isinstance(node, ast.Assign)
                and isinstance(node.targets[0], ast.Name)
                and node.targets[0].id in ("revision", "down_revision")
            }
            assert names["down_revision"] == previous, file
            previous = names["revision"]
