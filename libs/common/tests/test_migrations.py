"""The runner of migrations: it gives up waiting for locks, tries again, and stops at the migration that fails."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from common import migrations
from common.migrations import migrate, provision, render_sql, revisions

SERVICE = "migrated"
ENV = "from common.migrations import run_migrations\n\nrun_migrations()\n"
REVISION = """
from alembic import op

revision = {number!r}
down_revision = {before!r}


def upgrade() -> None:
    op.execute({statement!r})
"""


class Sample:
    """A service of this test with migrations of its own, and its database."""

    def __init__(self, folder: Path, url: str, admin: asyncpg.Connection) -> None:
        self.folder = folder
        self.url = url
        self.admin = admin

    def add(self, statement: str) -> None:
        """Add a migration that executes a statement."""
        versions = self.folder / "migrations/versions"
        count = len(list(versions.glob("*.py")))
        before = f"{count:04}" if count else None
        text = REVISION.format(number=f"{count + 1:04}", before=before, statement=statement)
        (versions / f"{count + 1:04}_step.py").write_text(text)

    async def migrate(self, **options: Any) -> None:
        """Run the migrations in a thread, as `python -m <service> migrate` does in a process."""
        await asyncio.to_thread(migrate, self.url, SERVICE, **options)

    async def version(self) -> str:
        found: str = await self.admin.fetchval("SELECT version_num FROM migrated.alembic_version")
        return found


@pytest.fixture
async def sample(tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sample]:
    (tmp_path / "migrations/versions").mkdir(parents=True)
    (tmp_path / "migrations/env.py").write_text(ENV)
    (tmp_path / "migrations/script.py.mako").touch()
    (tmp_path / f"src/{SERVICE}").mkdir(parents=True)
    (tmp_path / f"src/{SERVICE}/__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    monkeypatch.delitem(sys.modules, SERVICE, raising=False)
    url = make_url(postgres_url).set(username=SERVICE, password="migrated-password")
    address = url.render_as_string(hide_password=False)
    await provision(postgres_url, address, SERVICE)
    admin = await asyncpg.connect(postgres_url)
    try:
        yield Sample(tmp_path, address, admin)
    finally:
        await admin.execute("DROP SCHEMA migrated CASCADE")
        await admin.close()
        sys.modules.pop(SERVICE, None)


async def test_a_migration_that_does_not_get_its_lock_changes_nothing_and_runs_later(sample: Sample) -> None:
    sample.add("CREATE TABLE things (id bigint PRIMARY KEY)")
    await sample.migrate()
    sample.add("ALTER TABLE things ADD COLUMN name text")
    async with sample.admin.transaction():
        await sample.admin.execute("SELECT 1 FROM migrated.things")  # a reader holds a lock until its transaction ends
        with pytest.raises(DBAPIError) as failure:
            await sample.migrate(lock_timeout_ms=50, tries=1)
        assert failure.value.orig.sqlstate == "55P03"  # type: ignore[union-attr]
    assert await sample.version() == "0001"
    await sample.migrate(lock_timeout_ms=50, tries=1)
    assert await sample.version() == "0002"


async def test_a_migration_is_tried_again_until_the_lock_is_free(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "_PAUSE_S", 0.01)
    sample.add("CREATE TABLE things (id bigint PRIMARY KEY)")
    await sample.migrate()
    sample.add("ALTER TABLE things ADD COLUMN name text")
    transaction = sample.admin.transaction()
    await transaction.start()
    await sample.admin.execute("SELECT 1 FROM migrated.things")
    migration = asyncio.create_task(sample.migrate(lock_timeout_ms=50, tries=1000))
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
    while not await sample.admin.fetchval(waiting):
        assert not migration.done()
    await transaction.rollback()
    await asyncio.wait_for(migration, 30)
    assert await sample.version() == "0002"


async def test_a_failed_migration_leaves_those_before_it(sample: Sample) -> None:
    sample.add("CREATE TABLE things (id bigint PRIMARY KEY)")
    sample.add("ALTER TABLE things ADD COLUMN name text NOT NULL DEFAULT 1 / 0")
    with pytest.raises(DBAPIError):
        await sample.migrate()
    assert await sample.version() == "0001"


async def test_each_statement_has_time_outs(sample: Sample) -> None:
    sample.add(
        "CREATE TABLE time_outs AS SELECT current_setting('lock_timeout') AS lock,"
        " current_setting('statement_timeout') AS statement"
    )
    await sample.migrate()
    assert tuple(await sample.admin.fetchrow("SELECT * FROM migrated.time_outs")) == ("2s", "1min")


async def test_the_sql_of_one_revision_is_rendered_without_a_database(sample: Sample) -> None:
    sample.add("CREATE TABLE things (id bigint PRIMARY KEY)")
    sample.add("ALTER TABLE things ADD COLUMN name text")
    assert revisions(SERVICE) == ["0001", "0002"]
    assert "CREATE TABLE things" in render_sql(SERVICE, "0001")
    assert "CREATE TABLE things" not in (second := render_sql(SERVICE, "0002"))
    assert "ADD COLUMN name text;" in second
