"""What the embedded stack runs, as data: each process, what must be done before, and in which order all ends."""

import importlib
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from tools.embedded.broker import EmbeddedBroker
from tools.embedded.environment import HOST, STORES
from tools.embedded.postgres import EmbeddedPostgres


class Stage(IntEnum):
    """When a process ends, among the others. The ones that end last start first."""

    GATEWAY = 0
    WORKER = 1
    API = 2
    TOOL = 3
    BROKER = 4
    POSTGRES = 5


@dataclass(frozen=True)
class Process:
    """One process. It is ready when `is_ready` says so, else when it answers 200 on `ready_path`, else when it
    takes connections. `prepare` is called before each start."""

    name: str
    stage: Stage
    command: list[str]
    port: int
    port_variable: str
    ready_path: str = ""
    stop_signal: signal.Signals = signal.SIGTERM
    prepare: Callable[[], None] | None = None
    is_ready: Callable[[], bool] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        scheme = {Stage.POSTGRES: "postgresql", Stage.BROKER: "kafka"}.get(self.stage, "http")
        return f"{scheme}://{HOST}:{self.port}"


@dataclass(frozen=True)
class Plan:
    """`processes` of the stages TOOL and later start first, then the `setup` commands run, then the rest starts.

    `repair` runs after the broker died, with all that it held in memory.
    """

    processes: list[Process]
    setup: dict[str, list[str]]
    postgres: EmbeddedPostgres | None = None
    repair: dict[str, list[str]] = field(default_factory=dict)


def cooee_plan(home: Path, environment: Mapping[str, str]) -> Plan:
    """Return the plan of the whole system; a part that the environment says is elsewhere is left out."""

    def process(name: str, stage: Stage, command: list[str], port_variable: str, ready_path: str) -> Process:
        return Process(name, stage, command, int(environment[port_variable]), port_variable, ready_path)

    processes: list[Process] = []
    setup: dict[str, list[str]] = {}
    postgres = None
    if "DATABASE_URL" not in environment:
        postgres = EmbeddedPostgres(home / "postgres", int(environment["POSTGRES_PORT"]))
        processes.append(postgres_process(postgres))
    if "KAFKA_BOOTSTRAP_SERVERS" in environment:
        setup["topics"] = _python("common", "topics")
    else:
        topics = importlib.import_module("common.events").TOPICS
        broker = EmbeddedBroker(topics, int(environment["KAFKA_PORT"]))
        processes.append(process("broker", Stage.BROKER, broker.command(), "KAFKA_PORT", ""))
    processes.append(process("handset", Stage.TOOL, _python("tools.handset"), "HANDSET_PORT", "/api/health/"))
    if environment.get("CLERK_JWKS_URL", "").startswith(f"http://{HOST}:{environment['ISSUER_PORT']}/"):
        ready_path = "/.well-known/jwks.json"
        processes.append(process("issuer", Stage.TOOL, _python("tools.issuer"), "ISSUER_PORT", ready_path))
    for service in STORES:
        upper = service.upper()
        setup[f"{service} migrate"] = _python(service, "migrate")
        api, worker = _python(service, "api"), _python(service, "worker")
        processes.append(process(f"{service} api", Stage.API, api, f"{upper}_PORT", "/health/ready"))
        processes.append(process(f"{service} worker", Stage.WORKER, worker, f"{upper}_WORKER_PORT", "/health/ready"))
    processes.append(process("gateway", Stage.GATEWAY, _python("gateway", "api"), "GATEWAY_PORT", "/health/ready"))
    repair = {"republish": _python("tools.operator", "republish", "--since", "1h")}
    return Plan(processes, setup, postgres, repair)


def postgres_process(server: EmbeddedPostgres) -> Process:
    """Return PostgreSQL as a process of a plan."""
    server.folder.mkdir(exist_ok=True)  # whether its user can reach it decides about the command
    return Process(
        "postgres",
        Stage.POSTGRES,
        server.command(),
        server.port,
        "POSTGRES_PORT",
        stop_signal=signal.SIGINT,
        prepare=server.prepare,
        is_ready=server.is_ready,
    )


def _python(*words: str) -> list[str]:
    return [sys.executable, "-m", *words]
