"""The plan of the embedded stack: its processes, the commands that prepare it, and the order of stopping."""

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
    """The order in which processes stop. The stages from TOOL on start first, before the set-up commands."""

    GATEWAY = 0
    WORKER = 1
    API = 2
    TOOL = 3
    BROKER = 4
    POSTGRES = 5


@dataclass(frozen=True)
class Process:
    """One process of the stack. `prepare` is called before each start, and then `command` if it is a function.

    The process is ready when `is_ready` returns true. Without `is_ready`, it is ready when `ready_path` answers 200.
    Without either, it is ready when it accepts connections.
    """

    name: str
    stage: Stage
    command: list[str] | Callable[[], list[str]]
    port: int
    port_variable: str
    ready_path: str = ""
    stop_signal: signal.Signals = signal.SIGTERM
    prepare: Callable[[], None] | None = None
    is_ready: Callable[[], bool] | None = None

    @property
    def url(self) -> str:
        """The address on which the process listens."""
        scheme = {Stage.POSTGRES: "postgresql", Stage.BROKER: "kafka"}.get(self.stage, "http")
        return f"{scheme}://{HOST}:{self.port}"


@dataclass(frozen=True)
class Plan:
    """The processes of the stages TOOL and later start first, then the `setup` commands run, then the rest starts.

    The `repair` commands run after the broker was restarted, because its events were in memory and are lost.
    """

    processes: list[Process]
    setup: dict[str, list[str]]
    postgres: EmbeddedPostgres | None = None
    repair: dict[str, list[str]] = field(default_factory=dict)


def cooee_plan(home: Path, environment: Mapping[str, str]) -> Plan:
    """Return the plan of the whole system. PostgreSQL and the broker are left out when the environment has others."""

    processes: list[Process] = []

    def add(name: str, stage: Stage, command: list[str], port_variable: str, ready_path: str = "/health/ready") -> None:
        process = Process(
            name=name,
            stage=stage,
            command=command,
            port=int(environment[port_variable]),
            port_variable=port_variable,
            ready_path=ready_path,
        )
        processes.append(process)

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
        add("broker", Stage.BROKER, broker.command(), "KAFKA_PORT", ready_path="")
    add("handset", Stage.TOOL, _python("tools.handset"), "HANDSET_PORT", ready_path="/api/health/")
    if environment.get("CLERK_JWKS_URL", "").startswith(f"http://{HOST}:{environment['ISSUER_PORT']}/"):
        jwks_path = "/.well-known/jwks.json"
        add("issuer", Stage.TOOL, _python("tools.issuer"), "ISSUER_PORT", ready_path=jwks_path)
    for service in STORES:
        upper = service.upper()
        setup[f"{service} migrate"] = _python(service, "migrate")
        add(f"{service} api", Stage.API, _python(service, "api"), f"{upper}_PORT")
        add(f"{service} worker", Stage.WORKER, _python(service, "worker"), f"{upper}_WORKER_PORT")
    add("gateway", Stage.GATEWAY, _python("gateway", "api"), "GATEWAY_PORT")
    if "OPERATORS_ORGANISATION" in environment:  # benchmarks and tests do without the page
        add("operators' page", Stage.GATEWAY, _python("cooee", "page"), "OPERATORS_PORT")
    repair = {
        "republish": _python(
            "cooee", "republish", "--since", "1h", "--reason", "broker died", "--operator", "supervisor"
        )
    }
    return Plan(processes, setup, postgres, repair)


def postgres_process(server: EmbeddedPostgres) -> Process:
    """Return PostgreSQL as a process of a plan."""
    return Process(
        name="postgres",
        stage=Stage.POSTGRES,
        command=server.command,  # it names the copy of the programs that `prepare` may make
        port=server.port,
        port_variable="POSTGRES_PORT",
        stop_signal=signal.SIGINT,
        prepare=server.prepare,
        is_ready=server.is_ready,
    )


def _python(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]
