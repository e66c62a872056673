"""Metrics, alerts and dashboards: what the pages list is what the code has, and no label can grow without bound."""

import importlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from common.events import TOPICS, FailureCategory
from common.http.errors import all_routes
from common.metrics import _METHODS, REGISTRY
from delivery.metrics import CIRCUIT_STATES
from delivery.models import PUBLISHED, Lane, MessageStatus, PauseKind
from delivery.providers import provider_classes
from gateway.routes import ROUTES

from .conftest import ROOT, SERVICES
from .test_services import ENVIRONMENT

PAGE = (ROOT / "docs/operators.md").read_text()
FOLDER = ROOT / "deploy/observability"
RULES: dict[str, Any] = yaml.safe_load((FOLDER / "alerts.yml").read_text())
DASHBOARDS = sorted((FOLDER / "dashboards").glob("*.json"))
# Names of values that identify a person, an organisation or a row. None of them is a label.
PRIVATE = re.compile(r"organisation|tenant|user|phone|recipient|sender|text|error|(^|_)id$|key")
SUFFIXES = {"histogram": ("_bucket", "_count", "_sum")}


def metrics() -> dict[str, MetricWrapperBase]:
    """Return all metrics of Cooee by the name that Prometheus shows."""
    for service in ("scheduling", "delivery"):
        importlib.import_module(f"{service}.metrics")
    found = [one for one in REGISTRY._collector_to_names if isinstance(one, MetricWrapperBase)]
    return {one._name + ("_total" if one._type == "counter" else ""): one for one in found}


def series() -> set[str]:
    """Return the names of all time series."""
    return {name + suffix for name, one in metrics().items() for suffix in SUFFIXES.get(one._type, ("",))}


def rules() -> Iterator[Mapping[str, Any]]:
    for group in RULES["groups"]:
        yield from group["rules"]


def sections() -> dict[str, str]:
    """Return the texts below the page's headings, by their anchors as GitHub makes them."""
    _, *parts = re.split(r"^#+ (.+)$", PAGE, flags=re.MULTILINE)
    anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in parts[::2]]
    return dict(zip(anchors, parts[1::2], strict=True))


def expressions() -> list[tuple[str, str]]:
    """Return every expression of the rules and dashboards, with where it is."""
    found = [(str(rule.get("alert") or rule["record"]), str(rule["expr"])) for rule in rules()]
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            found += [(f"{path.name}: {panel['title']}", target["expr"]) for target in panel["targets"]]
    return found


def test_the_page_lists_every_metric_with_its_type_and_labels() -> None:
    listed = {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in re.findall(r"^\| `(cooee_\w+)` \| (\w+) \| ([^|]*) \|", PAGE, re.MULTILINE)
    }
    assert listed == {name: (one._type, tuple(one._labelnames)) for name, one in metrics().items()}


async def label_values(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Return all values that each label can have, from the code that sets them."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    routes, groups, loops = {route.template for route in ROUTES} | {"-"}, set(), {"relay"}
    for service in SERVICES[:3]:
        settings = importlib.import_module(f"{service}.settings").Settings()
        app = importlib.import_module(f"{service}.app").create_app(settings)
        routes |= {str(getattr(route, "path", "-")) for route in all_routes(app.routes)}
        worker = await importlib.import_module(f"{service}.worker").create_worker(settings)
        groups |= {str(subscriber.group_id) for subscriber in worker.bus.subscribers()}
        loops |= {loop.name for loop in worker.all_loops()}
        await worker.database.close()
    providers = {provider.name for provider in provider_classes()}
    categories = set(get_args(FailureCategory))
    loops |= {f"{loop.removesuffix(' log')} {name}" for loop in loops if loop.endswith(" log") for name in providers}
    return {
        "service": set(SERVICES),
        "method": {*_METHODS, "other"},
        "route": routes,
        "group": groups,
        "topic": set(TOPICS),
        "loop": loops,
        "pool": set(re.findall(r'_pool, "(\w+)"\)', source("database"))) | {"statements", "notify"},
        "lane": {lane.value for lane in Lane},
        "provider": providers | {"-"},
        "outcome": {status.value for status in (*PUBLISHED, MessageStatus.DELIVERED)},
        "failure_category": categories | {"-"},
        "result": categories | {"answered"},
        "state": set(CIRCUIT_STATES),
        "kind": {kind.value for kind in PauseKind},
        "format": {"sms", "mms"},
        "status": {str(status) for status in statuses()},
    }


def source(module: str) -> str:
    return (ROOT / f"libs/common/src/common/{module}.py").read_text()


def statuses() -> set[int]:
    """Return the status codes that the code names."""
    text = "\n".join(path.read_text() for path in ROOT.glob("**/src/**/*.py") if "/.venv/" not in str(path))
    named = re.findall(
        r"(?:status(?:_code)?\s*[=:]+\s*(?:int\s*=\s*)?|status_code=|Response\([^)\n]*, )([1-5]\d\d)\b", text
    )
    return {int(code) for code in named} | {200, 204, 499}


async def test_every_label_has_few_values_and_none_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {name: int(most) for name, most in re.findall(r"^\| `(\w+)` \| [^|]+ \| (\d+) \|$", PAGE, re.MULTILINE)}
    values = await label_values(monkeypatch)
    used = {label for one in metrics().values() for label in one._labelnames}
    assert used == values.keys() == limits.keys()
    assert not {label for label in used if PRIVATE.search(label)}
    assert not {label: len(values[label]) for label in used if not 0 < len(values[label]) <= limits[label]}


def test_every_expression_uses_metrics_and_labels_that_exist() -> None:
    known, recorded = series(), {str(rule["record"]) for rule in rules() if "record" in rule}
    labels = {label for one in metrics().values() for label in one._labelnames} | {"le", "job", "instance"}
    for where, expression in expressions():
        plain = re.sub(r'"[^"]*"', '""', expression)
        names = set(re.findall(r"(?<![\w:])cooee[\w:]+", plain))
        assert names <= known | recorded, where
        assert names or "up" in plain or "process_" in plain, where
        used = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", " ".join(re.findall(r"\{[^}]*\}", plain)))
        used += [label for inner in re.findall(r"\bby \(([^)]*)\)", plain) for label in re.split(r",\s*", inner)]
        assert set(used) <= labels, where


def test_every_bucket_that_a_rule_names_exists() -> None:
    for where, expression in expressions():
        for name, bound in re.findall(r'(cooee_\w+)_bucket\{[^}]*le="([\d.]+)"', expression):
            assert float(bound) in metrics()[name]._upper_bounds, where  # type: ignore[attr-defined]


def test_every_alert_has_a_section_that_names_it() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len({rule["alert"] for rule in alerts}) == len(alerts)
    for rule in alerts:
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (page, anchor in sections()) == ("docs/operators.md", True), rule["alert"]
        named_in = "act-on-alerts" if "BudgetBurns" in rule["alert"] else anchor  # the table of the objectives
        assert re.search(rf"\b{rule['alert']}\b", sections()[named_in]), rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]


def test_the_acceptance_objective_counts_every_route_that_sends() -> None:
    sends = {
        route.template for route in ROUTES if re.match(r"/api/(sms/send|schedules/|group-schedules/)", route.template)
    }
    assert len(sends) >= 5
    for rule in rules():
        for pattern in re.findall(r'route=~"([^"]+)"', str(rule["expr"])):
            assert {route.template for route in ROUTES if re.fullmatch(pattern, route.template)} == sends


def test_every_process_of_the_compose_file_is_scraped_on_a_port_that_is_not_published() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    prometheus = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    (job,) = prometheus["scrape_configs"]
    targets = {target.split(":")[0]: target.split(":")[1] for target in job["static_configs"][0]["targets"]}
    assert targets.keys() == {
        name for name, one in services.items() if one.get("command", [""])[-1] in ("api", "worker")
    }
    for name, port in targets.items():
        assert not any(str(published).endswith(f":{port}") for published in services[name].get("ports", ())), name
    assert all(services[name]["profiles"] == ["observability"] for name in ("prometheus", "grafana", "jaeger"))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("command", [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]])
def test_prometheus_accepts_the_rules(command: list[str]) -> None:
    ended = subprocess.run(["promtool", *command], cwd=FOLDER, env=dict(os.environ), capture_output=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
