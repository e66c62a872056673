"""Runs a command with PostgreSQL, Apache Kafka and Valkey in containers: `python -m tools.containers COMMAND …`.

The command finds them in TEST_DATABASE_URL, TEST_KAFKA_BOOTSTRAP_SERVERS and VALKEY_URL. Kafka is a plain container
whose advertised listener names the published port, which is chosen before it starts.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time

from testcontainers.core.container import DockerContainer

from common.topics import TopicSettings, create_topics

POSTGRES = "postgres:17-trixie"
KAFKA = "apache/kafka:4.1.0"
VALKEY = "valkey/valkey:8.1"
_PASSWORD = "containers"  # noqa: S105
_START_S = 90.0


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def postgres(port: int) -> DockerContainer:
    """PostgreSQL as the compose file runs it, with room for the connections of many tests."""
    return (
        DockerContainer(POSTGRES)
        .with_env("POSTGRES_PASSWORD", _PASSWORD)
        .with_bind_ports(5432, port)
        .with_command("postgres -c max_connections=300 -c fsync=off")
    )


def kafka(port: int) -> DockerContainer:
    """A single broker in KRaft mode, reached under `127.0.0.1:port`."""
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


def wait_for(what: str, check: object) -> None:
    """Polls `check()` until it stops failing; SystemExit after a while."""
    deadline = time.monotonic() + _START_S
    while True:
        try:
            assert callable(check)
            check()
            return
        except Exception as error:  # noqa: BLE001  # whatever a server that is starting may say
            if time.monotonic() > deadline:
                raise SystemExit(f"{what} did not start: {error!r}") from None
            time.sleep(0.5)


def main(command: list[str]) -> int:
    """Starts both, waits for them, runs the command, removes both. Returns the command's exit code."""
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
