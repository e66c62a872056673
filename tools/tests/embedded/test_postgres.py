"""The embedded PostgreSQL: starts and stops, existing data, two servers, killed servers, root."""

import asyncio
import os
import signal
from pathlib import Path

import asyncpg
import pytest

from tools.embedded.postgres import EmbeddedPostgres
from tools.embedded.processes import runs_program


def query(server: EmbeddedPostgres, *statements: str) -> object:
    """Run statements as the superuser and return the value of the last one."""

    async def run() -> object:
        connection = await asyncpg.connect(server.url())
        try:
            for statement in statements:
                value = await connection.fetchval(statement)
            return value
        finally:
            await connection.close()

    return asyncio.run(run())


def test_restarted_server_has_its_rows(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "pg") as server:
        query(server, "CREATE TABLE saved AS SELECT 7 AS value")
        assert query(server, "SHOW fsync") == "on"
    assert server.pid is None
    with EmbeddedPostgres(tmp_path / "pg", durable=False) as again:
        assert query(again, "SELECT value FROM saved") == 7
        assert query(again, "SHOW fsync") == "off"
        assert query(again, "CREATE EXTENSION pg_trgm", "SELECT count(*) FROM pg_extension") == 2


def test_two_servers_run_at_the_same_time(tmp_path: Path) -> None:
    with (
        EmbeddedPostgres(tmp_path / "a", durable=False) as first,
        EmbeddedPostgres(tmp_path / "b", durable=False) as second,
    ):
        assert first.port != second.port
        assert query(first, "SELECT 1") == query(second, "SELECT 1") == 1


def test_server_of_a_dead_starter_is_ended_and_its_rows_remain(tmp_path: Path) -> None:
    left = EmbeddedPostgres(tmp_path / "pg").start()
    query(left, "CREATE TABLE saved AS SELECT 7 AS value")
    old_pid = left.pid
    with EmbeddedPostgres(tmp_path / "pg") as server:
        assert query(server, "SELECT value FROM saved") == 7
        left.stop()  # reap the process
        assert old_pid is not None
        assert not runs_program(old_pid, str(tmp_path))


def test_killed_server_starts_again_despite_a_stale_pid_file(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "pg").start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    pid_file = tmp_path / "pg" / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]))  # as if another process had this id now
    with server:
        assert query(server, "SELECT 1") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop its rights")
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_server_started_by_root_does_not_run_as_root(tmp_path: Path, mode: int) -> None:
    (tmp_path / "folder").mkdir(mode=mode)
    with EmbeddedPostgres(tmp_path / "folder" / "pg", durable=False) as server:
        status = Path(f"/proc/{server.pid}/status").read_text()
        uid_line = next(line for line in status.splitlines() if line.startswith("Uid:"))
        assert "0" not in uid_line.split()[1:]


def test_wrong_password_is_refused(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "pg", durable=False) as server:

        async def connect() -> None:
            await asyncpg.connect(server.url().replace("postgres:", "postgres:no"))

        with pytest.raises(asyncpg.InvalidPasswordError):
            asyncio.run(connect())
