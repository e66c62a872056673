"""The demo's journey against the images, PostgreSQL, Apache Kafka and Valkey of docker-compose.yml."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tools.demo.journey import CSV, Api, check_exactly_once, expected_messages, read_handset, run_journey

ROOT = Path(__file__).resolve().parents[2]
USER = "user_e2e"

pytestmark = pytest.mark.compose


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Compose:
    """The running project: its published addresses, and `docker compose` on it."""

    environment: dict[str, str]
    gateway: str
    handset: str

    def run(self, *arguments: str, timeout: float = 900) -> str:
        done = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, (
            f"docker compose {' '.join(arguments)}:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        )
        return done.stdout

    def token(self, organisation: str) -> str:
        command = ["python", "-m", "tools.token", "--org", organisation, "--user", USER, "--role", "admin"]
        return self.run("exec", "-T", "issuer", *command).strip()


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    gateway, handset = free_port(), free_port()
    environment = {
        **os.environ,
        "COMPOSE_PROJECT_NAME": f"cooee-e2e-{os.getpid()}",
        "GATEWAY_PORT": str(gateway),
        "HANDSET_PORT": str(handset),
        "HANDSET_LATENCY_MS": "100",  # a kill finds calls in flight
    }
    project = Compose(environment, f"http://127.0.0.1:{gateway}", f"http://127.0.0.1:{handset}")
    try:
        project.run("up", "--build", "--wait", "--quiet-pull")
        yield project
    except BaseException:
        print(project.run("logs", "--no-color", "--tail", "60"))
        raise
    finally:
        project.run("down", "--volumes", "--remove-orphans", "--timeout", "20")


async def journey(compose: Compose, organisation: str, **more: object) -> None:
    """The journey, and the promise: every eligible contact's message on the handset exactly once."""
    token = compose.token(organisation)
    async with aiohttp.ClientSession() as session:
        before = len(await read_handset(session, compose.handset))
        rows = CSV.read_bytes()
        result = await run_journey(Api(session, compose.gateway, lambda: token), rows=rows, due_in_s=5, **more)  # type: ignore[arg-type]
        expected = expected_messages(rows, result.refused, result.opted_out_phone)
        check_exactly_once((await read_handset(session, compose.handset))[before:], expected)
    assert result.counts == {"sent": len(expected)}
    assert result.failures == {}


async def test_the_journey_ends_with_every_message_on_the_handset_exactly_once(compose: Compose) -> None:
    await journey(compose, "org_e2e")


def test_the_example_consumer_hears_what_became_of_messages(compose: Compose) -> None:
    """The command of docs/events.md, after the journey above sent something."""
    command = f"run --rm --no-deps -T --volume {ROOT}/docs/examples:/examples:ro --entrypoint python contacts-worker"
    heard = compose.run(*command.split(), "/examples/listen.py", "--count", "50", timeout=60)
    assert heard.count(": sent") == 50


async def test_a_worker_killed_while_it_sends_loses_and_doubles_nothing(compose: Compose) -> None:
    """On Apache Kafka, with rebalances as they really are."""
    killed: list[int] = []

    async def kill(counts: dict[str, int]) -> None:
        if not killed and counts.get("sent", 0) + counts.get("processing", 0) > 100:
            async with aiohttp.ClientSession() as session, session.get(f"{compose.handset}/api/requests/") as answer:
                in_flight = (await answer.json())["in_flight"]
            if in_flight > 0:
                compose.run("kill", "--signal", "SIGKILL", "delivery-worker")
                compose.run("start", "delivery-worker")
                killed.append(in_flight)

    await journey(compose, "org_e2e_killed", while_sending=kill, patience_s=300)
    assert killed, "nothing was in flight when the worker should have been killed: the test proves nothing"


def test_the_operators_commands_run_beside_the_services(compose: Compose) -> None:
    """The providers are asked, and all three databases are read."""
    told = compose.run("run", "--rm", "--build", "-T", "operator", "health", timeout=300)
    (line,) = (line for line in told.splitlines() if line.startswith("mobile_message"))
    assert " ok " in line
    assert "nothing" in compose.run("run", "--rm", "-T", "operator", "stuck", timeout=60).lower()


def test_nothing_but_gateway_and_handset_is_published_and_nothing_runs_as_root(compose: Compose) -> None:
    services = [json.loads(line) for line in compose.run("ps", "--format", "json").splitlines()]
    published = {s["Service"] for s in services if any(p.get("PublishedPort") for p in s.get("Publishers") or [])}
    assert published == {"gateway", "handset"}
    ours = {s["Service"] for s in services} - {"postgres", "kafka", "valkey"}
    assert {"contacts", "contacts-worker", "scheduling-worker", "delivery-worker", "gateway"} <= ours
    for service in ours:
        assert compose.run("exec", "-T", service, "python", "-c", "import os; print(os.getuid())").strip() == "10001"
