"""The journey of the demo on docker-compose.yml: the images, PostgreSQL, Apache Kafka and Valkey."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tools.demo.journey import CSV, Api, check_exactly_once, expected_messages, read_handset, run_journey

ROOT = Path(__file__).resolve().parents[2]
USER = "user_e2e"

pytestmark = pytest.mark.compose


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Compose:
    """The running project: its published addresses and its commands."""

    environment: dict[str, str]
    gateway: str
    handset: str

    def run(self, *arguments: str, timeout: float = 900) -> str:
        """Run `docker compose` with arguments and return its output. Fails when the command fails."""
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
        """Return a session token of an admin."""
        command = ["python", "-m", "tools.token", "--org", organisation, "--user", USER, "--role", "admin"]
        return self.run("exec", "-T", "issuer", *command).strip()


@contextmanager
def logs_of_failure(compose: Compose) -> Iterator[None]:
    """Print the last lines of every container's log when the block fails."""
    try:
        yield
    except BaseException:
        print(compose.run("logs", "--no-color", "--tail", "60"))
        raise


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    """Build and start the project, and remove it afterwards."""
    gateway, handset = free_port(), free_port()
    environment = {
        **os.environ,
        "COMPOSE_PROJECT_NAME": f"cooee-e2e-{os.getpid()}",
        "GATEWAY_PORT": str(gateway),
        "HANDSET_PORT": str(handset),
    }
    project = Compose(environment, f"http://127.0.0.1:{gateway}", f"http://127.0.0.1:{handset}")
    try:
        with logs_of_failure(project):
            project.run("up", "--build", "--wait", "--quiet-pull")
        yield project
    finally:
        project.run("down", "--volumes", "--remove-orphans", "--timeout", "20")


async def journey(compose: Compose, organisation: str, **more: object) -> None:
    """Run the journey and check that every contact that may be messaged has its message exactly once."""
    with logs_of_failure(compose):
        await _journey(compose, compose.token(organisation), **more)


async def _journey(compose: Compose, token: str, **more: object) -> None:
    async with aiohttp.ClientSession() as session:
        before = len(await read_handset(session, compose.handset))
        rows = CSV.read_bytes()
        result = await run_journey(Api(session, compose.gateway, lambda: token), rows=rows, due_in_s=5, **more)  # type: ignore[arg-type]
        expected = expected_messages(rows, result.refused, result.opted_out_phone)
        check_exactly_once((await read_handset(session, compose.handset))[before:], expected)
    assert result.counts == {"sent": len(expected)}
    assert result.failures == {}


async def test_journey_delivers_every_message_exactly_once(compose: Compose) -> None:
    await journey(compose, "org_e2e")


def test_example_consumer_prints_outcomes_of_messages(compose: Compose) -> None:
    """Run the command of docs/events.md, which prints the outcomes of the journey above."""
    command = f"run --rm --no-deps -T --volume {ROOT}/docs/examples:/examples:ro --entrypoint python contacts-worker"
    with logs_of_failure(compose):
        output = compose.run(*command.split(), "/examples/listen.py", "--count", "50", timeout=60)
    assert output.count(": sent") + output.count(": delivered") + output.count(": delayed") == 50


async def test_killed_worker_loses_and_duplicates_no_message(compose: Compose) -> None:
    """Kill delivery's worker while requests are in flight. Apache Kafka then rebalances its consumer groups."""
    killed: list[int] = []

    async def kill(_: dict[str, int]) -> None:
        if killed:
            return
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{compose.handset}/api/requests/") as answer:
                in_flight = (await answer.json())["in_flight"]
            if in_flight == 0:
                return
            compose.run("kill", "--signal", "SIGKILL", "delivery-worker")
            await set_latency(session, compose, 0)
        compose.run("start", "delivery-worker")
        killed.append(in_flight)

    async with aiohttp.ClientSession() as session:
        await set_latency(session, compose, 10_000)  # longer than the kill takes
    await journey(compose, "org_e2e_killed", while_sending=kill, timeout_s=300)
    assert killed, "no request was in flight when the worker should have been killed, so the test proves nothing"


async def set_latency(session: aiohttp.ClientSession, compose: Compose, milliseconds: int) -> None:
    """Set how long the handset waits before it answers a submission."""
    settings = {"latency_ms": milliseconds}
    async with session.patch(f"{compose.handset}/api/settings/", json=settings) as answer:
        answer.raise_for_status()


def test_operators_commands_run_in_the_project(compose: Compose) -> None:
    """Check a provider's account, ask the gateway, and read all three databases."""
    output = compose.run("run", "--rm", "--build", "-T", "cooee", "providers", "check", timeout=300)
    (line,) = (line for line in output.splitlines() if line.startswith("mobile_message"))
    assert " ok " in line
    health = json.loads(compose.run("run", "--rm", "-T", "cooee", "health", "--json", timeout=60))
    assert (health["status"], len(health["services"])) == ("ok", 3)
    assert "nothing" in compose.run("run", "--rm", "-T", "cooee", "stuck", timeout=60).lower()


def test_only_gateway_and_handset_are_published_and_no_service_runs_as_root(compose: Compose) -> None:
    services = [json.loads(line) for line in compose.run("ps", "--format", "json").splitlines()]
    published = {s["Service"] for s in services if any(p.get("PublishedPort") for p in s.get("Publishers") or [])}
    assert published == {"gateway", "handset"}
    ours = {s["Service"] for s in services} - {"postgres", "kafka", "valkey"}
    assert {"contacts", "contacts-worker", "scheduling-worker", "delivery-worker", "gateway"} <= ours
    for service in ours:
        assert compose.run("exec", "-T", service, "python", "-c", "import os; print(os.getuid())").strip() == "10001"
