"""A real Prometheus reads the metrics of a whole stack, and alerts fire when something is broken.

The rules are those of deploy/observability/alerts.yml with shorter times, so that the alerts fire within seconds: every
`for:` is one second, every window 10 seconds. Expressions, thresholds and labels stay as they are. promtool tests the
real times (alerts_test.yml).
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.conftest import SETTINGS, Client
from tools.embedded.environment import STORES
from tools.embedded.processes import free_port, request_death_signal
from tools.embedded.supervisor import Stack
from tools.token import Issuer, Session

pytestmark = pytest.mark.stack

RULES = Path(__file__).parents[2] / "deploy/observability/alerts.yml"
ALERT_WITHIN_S = 60


def quick_rules() -> dict[str, Any]:
    """Return the rules with a `for:` of one second and windows of 10 seconds."""
    rules: dict[str, Any] = yaml.safe_load(re.sub(r"\[\d+[mh]\]", "[10s]", RULES.read_text()))
    for group in rules["groups"]:
        group.pop("interval", None)
        for rule in group["rules"]:
            if "alert" in rule:
                rule["for"] = "1s"
    return rules


def targets(stack: Stack) -> list[str]:
    """Return the addresses of the metrics, as prometheus.yml lists them for the containers."""
    ports = [f"{service.upper()}_{kind}" for service in STORES for kind in ("PORT", "WORKER_PORT")]
    return [f"127.0.0.1:{stack.environment[name]}" for name in ("GATEWAY_METRICS_PORT", *ports)]


@pytest.fixture
async def broken(tmp_path: Path) -> Any:
    """A stack of this test's own, because the test stops some of its processes."""
    async with Stack(tmp_path / "stack", SETTINGS, free_ports=True) as running:
        yield running


@pytest.fixture
def prometheus(tmp_path: Path, broken: Stack) -> Iterator[str]:
    """The address of a Prometheus that scrapes the stack once a second."""
    if shutil.which("prometheus") is None:
        assert not os.environ.get("CI"), "prometheus is not installed: tools/prometheus.sh"
        pytest.skip("prometheus is not installed: tools/prometheus.sh")
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(quick_rules()))
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(tmp_path / "alerts.yml")],
        "scrape_configs": [{"job_name": "cooee", "static_configs": [{"targets": targets(broken)}]}],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    with (tmp_path / "prometheus.log").open("wb") as log:
        server = subprocess.Popen(
            ["prometheus", *options, f"--web.listen-address={address}", "--log.level=warn"],
            stdout=log,
            stderr=log,
            preexec_fn=request_death_signal(signal.SIGKILL),  # noqa: PLW1509 (forked by the main thread)
        )
        yield f"http://{address}"
        server.terminate()
        server.wait(30)


async def read_firing(http: aiohttp.ClientSession, prometheus: str) -> set[str]:
    """Return the names of the alerts that fire. While Prometheus starts there is none."""
    try:
        async with http.get(f"{prometheus}/api/v1/alerts") as answer:
            alerts = (await answer.json())["data"]["alerts"] if answer.status == 200 else []
    except aiohttp.ClientConnectorError:
        return set()
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


async def wait_for(firing: Callable[[], Awaitable[set[str]]], expected: set[str], call: Client) -> set[str]:
    """Send messages until all of these alerts fire, and return those that do."""
    deadline = asyncio.get_running_loop().time() + ALERT_WITHIN_S
    while not expected <= (found := await firing()):
        assert asyncio.get_running_loop().time() < deadline, f"firing: {found}, expected: {expected}"
        await call("POST", "/api/sms/send/", {"message": "Hello", "recipient": "0491 570 006"})
    return found


async def read_up(http: aiohttp.ClientSession, prometheus: str) -> int:
    """Return how many processes Prometheus has scraped."""
    try:
        async with http.get(f"{prometheus}/api/v1/query", params={"query": "sum(up)"}) as answer:
            if answer.status != 200:  # it has not read its own files so far
                return 0
            result = (await answer.json())["data"]["result"]
    except aiohttp.ClientConnectorError:
        return 0
    return int(result[0]["value"][1]) if result else 0


async def test_alerts_fire_for_a_provider_a_process_and_failing_sends(broken: Stack, prometheus: str) -> None:
    async with aiohttp.ClientSession() as http:
        issuer = Issuer(broken.home, broken.environment["CLERK_ISSUER"])
        call = Client(http, broken.url("gateway"), issuer, Session("user_alerts", "org_alerts", "admin"))

        async def firing() -> set[str]:
            return await read_firing(http, prometheus)

        deadline = asyncio.get_running_loop().time() + ALERT_WITHIN_S
        # Until every process was scraped, WorkerMissing fires, because its `for:` is short, too.
        while await read_up(http, prometheus) < len(targets(broken)) or await firing():
            assert asyncio.get_running_loop().time() < deadline
            await call("GET", "/api/health/")
        await broken.stop_process("handset")  # the provider of this stack
        found = await wait_for(firing, {"ProviderUnavailable"}, call)
        assert "ProcessDown" not in found
        await broken.stop_process("scheduling api")
        await wait_for(firing, {"ProcessDown", "AcceptanceBudgetBurnsFast", "ProviderUnavailable"}, call)
