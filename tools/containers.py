"""Run a command with PostgreSQL, Apache Kafka and Valkey in containers: `python -m tools.containers COMMAND …`.

The command gets their addresses in TEST_DATABASE_URL, TEST_KAFKA_BOOTSTRAP_SERVERS and VALKEY_URL. Kafka advertises
the published port to its clients, so the port is chosen before the container starts.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable

from testcontainers.core.container import DockerContainer

from common.topics import TopicSettings, create_topics
from tools.embedded.processes import free_port

POSTGRES = "postgres:17-trixie"
KAFKA = "apache/kafka:4.1.0"
VALKEY = "valkey/valkey:8.1"
_PASSWORD = "containers"  # noqa: S105
_START_S = 90.0


def postgres(port: int) -> DockerContainer:
    """Return PostgreSQL with enough connections for parallel tests. It does not sync to disk."""
    return (
        DockerContainer(POSTGRES)
        .with_env("POSTGRES_PASSWORD", _PASSWORD)
        .with_bind_ports(5432, port)
        .with_command("postgres -c max_connections=300 -c fsync=off")
    )


def kafka(port: int) -> DockerContainer:
    """Return a single broker in KRaft mode that clients reach at `127.0.0.1:port`."""
    environment = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    }
    container = DockerContainer(KAFKA).with_bind_ports(9092, port)
    for name, value in environment.items():
        container = container.with_env(name, value)
    return container


def wait_for(name: str, check: Callable[[], object]) -> None:
    """Call `check()` until it raises nothing. Exit when the server did not start in time."""
    deadline = time.monotonic() + _START_S
    while True:
        try:
            check()
            return
        except Exception as error:  # noqa: BLE001  # a server that is starting may fail in any way
            if time.monotonic() > deadline:
                raise SystemExit(f"{name} did not start within {_START_S:.0f} s: {error!r}") from None
            time.sleep(0.5)


def main(command: list[str]) -> int:
    """Start the containers, run the command, remove the containers. Return the command's exit code."""
    import asyncpg  # noqa: PLC0415

    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    postgres_port, kafka_port, valkey_port = free_port(), free_port(), free_port()
    url = f"postgresql://postgres:{_PASSWORD}@127.0.0.1:{postgres_port}/postgres"
    servers = f"127.0.0.1:{kafka_port}"

    async def connect() -> None:
        connection = await asyncpg.connect(url, timeout=3)
        await connection.close()

    async def topics() -> None:
        await create_topics(TopicSettings(kafka_bootstrap_servers=servers, topic_partitions=4))

    print(f"starting {POSTGRES}, {KAFKA} and {VALKEY}", flush=True)
    valkey = DockerContainer(VALKEY).with_bind_ports(6379, valkey_port)
    with postgres(postgres_port), kafka(kafka_port), valkey:
        wait_for("PostgreSQL", lambda: asyncio.run(connect()))
        wait_for("Kafka", lambda: asyncio.run(topics()))
        environment = {
            **os.environ,
            "TEST_DATABASE_URL": url,
            "TEST_KAFKA_BOOTSTRAP_SERVERS": servers,
            "VALKEY_URL": f"valkey://127.0.0.1:{valkey_port}",
        }
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
