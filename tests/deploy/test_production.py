"""The rules of docker-compose.production.yml: secrets from files, limits, restarts, who is reached from where."""

import inspect
import re
from typing import Any

import aiohttp
import pytest
import yaml

from cooee.page.settings import PageSettings

from .manifests import ROOT
from .stopping import MARGIN_S, stop_s
from .test_settings import PROGRAMS, SERVICES, classes, secret_variables, variables

FILE = ROOT / "docker-compose.production.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
DEVELOPMENT: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
ALL: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in ALL.items() if "cooee-" in one["image"]}
RUNNING = {name: one for name, one in OURS.items() if one.get("command", [""])[-1] in ("api", "worker")}
COMMANDS = {name for name, one in ALL.items() if one["restart"] == "no"}
CONNECTIONS = 27  # of a process: tests/deploy/test_rendered.py counts the same


def service_of(name: str) -> str:
    """Return whose settings a service of the file reads. `cooee` has the operator's commands, and `page` is one."""
    return "operator" if name in ("cooee", "page") else name.split("-", maxsplit=1)[0]


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


@pytest.mark.parametrize("name", ALL)
def test_every_service_has_a_restart_policy_limits_and_bounded_logs(name: str) -> None:
    one = ALL[name]
    assert one["restart"] == ("no" if name in COMMANDS else "unless-stopped")
    assert one["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert one["logging"]["options"].keys() == {"max-size", "max-file"}
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert "build" not in one


def test_what_runs_by_itself_is_what_the_development_file_runs() -> None:
    left_out = {"handset", "issuer", "jaeger"}  # in production, traces go to a collector of yours
    assert ALL.keys() == DEVELOPMENT["services"].keys() - left_out | {"caddy", "page", "backup"}
    assert {*RUNNING, "caddy", "page", "postgres", "kafka", "valkey", "prometheus", "grafana"} == ALL.keys() - COMMANDS
    for name in RUNNING.keys() | {"page", "postgres", "kafka", "valkey"}:
        assert "healthcheck" in ALL[name]


@pytest.mark.parametrize("name", OURS)
def test_our_services_have_the_version_of_the_release_and_few_rights(name: str) -> None:
    one = OURS[name]
    assert re.fullmatch(r"\$\{IMAGE_PREFIX:-\}cooee-\w+:\$\{VERSION(:\?.*)?\}", one["image"])
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert "ports" not in one


def test_only_caddy_is_reached_from_outside() -> None:
    published = {name: one["ports"] for name, one in ALL.items() if "ports" in one}
    assert published.keys() == {"caddy", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for name in ("prometheus", "grafana") for port in published[name])
    assert ALL["caddy"]["networks"] == ["edge"]
    assert [name for name, one in ALL.items() if "edge" in one["networks"]] == ["caddy", "gateway", "page"]
    for name in ("postgres", "kafka", "valkey", "contacts", "scheduling", "backup"):
        assert ALL[name]["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}


@pytest.mark.parametrize("name", ALL)
def test_no_secret_is_a_variable(name: str) -> None:
    listed = set(ALL[name].get("environment", {}))
    without_password = {"VALKEY_URL"}
    assert not listed & (secret_variables() | {"DATABASE_URL", "POSTGRES_PASSWORD", "PGPASSWORD"}) - without_password


def test_the_example_of_the_settings_has_settings_and_no_secret() -> None:
    text = (ROOT / "deploy/production/production.env.example").read_text()
    listed = set(re.findall(r"^#? ?([A-Z_0-9]+)=", text, re.MULTILINE))
    known = variables(*(one for service in PROGRAMS for one in classes(service)))
    assert listed - known == {"VERSION", "IMAGE_PREFIX", "PUBLIC_HOST", "OPERATORS_HOST", "COMPOSE_PROFILES"}
    assert not listed & secret_variables()


@pytest.mark.parametrize("name", [name for name in OURS if name != "topics"])
def test_each_service_gets_its_secrets_and_no_other(name: str) -> None:
    service = service_of(name)
    expected = {one for one in secret_variables() if one in variables(*classes(service))} - {"VALKEY_URL"}
    if service in ("delivery", "operator"):
        expected |= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}  # AWS's library reads them
    if name.endswith("-migrate"):
        own = [one for one in expected if not one.startswith(("MOBILE_", "MESSAGEMEDIA_", "TWILIO_", "AWS_", "AZURE_"))]
        expected = {*own, "DATABASE_URL"} - {"GCS_HMAC_SECRET", "MEDIA_LINK_SECRET"}
    assert {one.upper() for one in OURS[name]["secrets"]} == expected


def test_every_secret_is_a_file_that_the_script_creates() -> None:
    used = {secret for one in ALL.values() for secret in one.get("secrets", ())}
    assert used == COMPOSE["secrets"].keys()
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"${{SECRETS:-./secrets}}/{name}"}
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/secrets/", "production.env", "/backups/"} <= set(ignored)


@pytest.mark.parametrize("name", RUNNING)
def test_every_variable_is_a_setting(name: str) -> None:
    known = variables(*(one for service in SERVICES for one in classes(service))) | {"SECRETS_FOLDER"}
    assert set(RUNNING[name]["environment"]) <= known
    assert RUNNING[name]["env_file"] == ["${SETTINGS_FILE:-production.env}"]


def test_the_page_has_its_host_and_what_it_needs_to_start() -> None:
    page, caddy = ALL["page"], ALL["caddy"]
    assert page["profiles"] == ["page"], "without an organisation of operators it would not start"
    assert page["command"] == ["page"]
    assert set(page["environment"]) <= {*RUNNING["contacts"]["environment"], *variables(PageSettings), "GATEWAY_URL"}
    assert page["environment"]["OPERATORS_URL"] == "https://${OPERATORS_HOST:-operators.invalid}"
    assert caddy["environment"]["OPERATORS_ADDRESS"] == "${OPERATORS_HOST:-http://operators.invalid}"
    port = page["environment"]["OPERATORS_PORT"]
    assert f"http://127.0.0.1:{port}/health/ready" in page["healthcheck"]["test"][-1]
    caddyfile = (ROOT / "deploy/production/Caddyfile").read_text()
    assert re.findall(r"^\{\$(\w+)\} \{$", caddyfile, re.MULTILINE) == ["SITE_ADDRESS", "OPERATORS_ADDRESS"]
    assert f"reverse_proxy page:{port}" in caddyfile


def test_a_container_has_time_to_drain_and_to_stop() -> None:
    for name, one in (RUNNING | {"page": ALL["page"]}).items():
        assert float(one["environment"]["DRAIN_S"]) > 0, name
        needed_s = stop_s(one["command"][-1], one["environment"])
        assert seconds(one["stop_grace_period"]) >= needed_s + MARGIN_S, name
    script = (ROOT / "deploy/rolling-restart.sh").read_text()
    assert 'docker stop --time 75 "$id"' in script
    assert {one["stop_grace_period"] for one in RUNNING.values()} == {"75s"}
    # Caddy must outlive the requests that it forwards.
    assert seconds(ALL["caddy"]["stop_grace_period"]) >= stop_s("api", ALL["gateway"]["environment"])
    cached_s = inspect.signature(aiohttp.TCPConnector).parameters["ttl_dns_cache"].default
    assert int(re.findall(r"^addresses_s=(\d+)", script, re.MULTILINE)[0]) > cached_s


def test_the_script_of_the_rolling_restart_knows_every_service() -> None:
    text = (ROOT / "deploy/rolling-restart.sh").read_text()
    listed = {kind: set(re.findall(rf'^{kind}s="(.*)"$', text, re.MULTILINE)[0].split()) for kind in ("api", "worker")}
    for kind, names in listed.items():
        assert names == {name for name, one in RUNNING.items() if one["command"][-1] == kind}


def test_postgresql_has_connections_for_every_process_and_for_a_rolling_restart() -> None:
    command = " ".join(ALL["postgres"]["command"])
    limit = int(re.findall(r"max_connections=(\d+)", command)[0])
    with_database = [name for name in RUNNING if name != "gateway"]
    one_more_api_of_each = 3
    assert (len(with_database) + one_more_api_of_each) * CONNECTIONS + 20 <= limit


def test_the_scraped_processes_are_those_that_run() -> None:
    prometheus = yaml.safe_load((ROOT / "deploy/observability/prometheus.yml").read_text())
    targets = prometheus["scrape_configs"][0]["static_configs"][0]["targets"]
    assert {target.split(":")[0] for target in targets} == RUNNING.keys()
