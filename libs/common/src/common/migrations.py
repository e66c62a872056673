"""The schema of a service: its roles, its migrations, and statements that the migrations share.

A service has three roles: `<service>_owner` (migrations only), `<service>_tenant` (sees one organisation, by row-level
security) and `<service>_all` (sees all, by a policy of its own). None has a right in another's schema.
"""

import asyncio
import importlib
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import sqlalchemy
import structlog
from alembic import command, context
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, make_url, pool
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from common.database import role_url

log = structlog.get_logger()

_LOCK_TIMEOUT_MS = 2000
_STATEMENT_TIMEOUT_MS = 60_000
_TRIES = 20
_PAUSE_S = 3.0
_LOCK_NOT_AVAILABLE = "55P03"
_LOCK = "SELECT pg_advisory_lock(hashtext('cooee.provision'))"


def migrations_folder(service: str) -> Path:
    """Return `services/<service>/migrations`, which is beside the package's `src`."""
    package = importlib.import_module(service)
    return Path(str(package.__file__)).resolve().parents[2] / "migrations"


async def provision(admin_url: str, service_url: str, service: str) -> None:
    """Create or update the service's roles and schema, as administrator."""
    url = make_url(service_url)
    prefix, password = str(url.username), str(url.password).replace("'", "''")
    engine = create_async_engine(make_url(admin_url).set(drivername="postgresql+asyncpg"), poolclass=pool.NullPool)
    try:
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.exec_driver_sql(_LOCK)
            for statement in _provision_statements(prefix, password, service, str(url.database)):
                await connection.exec_driver_sql(statement)
    finally:
        await engine.dispose()


def _provision_statements(prefix: str, password: str, service: str, database: str) -> list[str]:
    statements = [f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC', "REVOKE ALL ON SCHEMA public FROM PUBLIC"]
    for role in (f"{prefix}_owner", f"{prefix}_tenant", f"{prefix}_all"):
        statements += [
            f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN"
            f" CREATE ROLE {role} LOGIN NOINHERIT; END IF; END $$",
            f"ALTER ROLE {role} PASSWORD '{password}'",
            f'GRANT CONNECT ON DATABASE "{database}" TO {role}',
            f'ALTER ROLE {role} IN DATABASE "{database}" SET search_path = {service}',
        ]
    for role in (f"{prefix}_tenant", f"{prefix}_all"):
        statements += [
            f"ALTER ROLE {role} SET statement_timeout = '30s'",
            f"ALTER ROLE {role} SET idle_in_transaction_session_timeout = '60s'",
            f"ALTER ROLE {role} SET transaction_timeout = '60s'",
            # The queries of these roles are small and their tables are in memory. A parallel scan would take cores
            # from other requests.
            f"ALTER ROLE {role} SET random_page_cost = 1.1",
            f"ALTER ROLE {role} SET max_parallel_workers_per_gather = 0",
            # Up to PostgreSQL 17 a scan that enable_seqscan avoids counts as very expensive. If a table has no index
            # that helps, as the key of erased_phone_hash, PostgreSQL would compile its plan for each call: 150 ms.
            f"ALTER ROLE {role} SET jit = off",
        ]
    # Plans that were prepared on near-empty tables would stay in use and scan whole tables later. A statement without
    # parameters keeps its plan even so (`Database.find_work`), so that plan must use an index from the beginning.
    statements += [
        f"ALTER ROLE {prefix}_all SET plan_cache_mode = force_custom_plan",
        f"ALTER ROLE {prefix}_all SET enable_seqscan = off",
    ]
    statements += [
        # Search by any part of a name within an organisation. Only an administrator may create extensions.
        "CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public",
        "CREATE EXTENSION IF NOT EXISTS btree_gin SCHEMA public",
        f"GRANT USAGE ON SCHEMA public TO {prefix}_owner",
        f"GRANT {prefix}_owner TO CURRENT_USER",
        f"CREATE SCHEMA IF NOT EXISTS {service} AUTHORIZATION {prefix}_owner",
        f"GRANT USAGE ON SCHEMA {service} TO {prefix}_tenant, {prefix}_all",
    ]
    return statements


def migrate(service_url: str, service: str, *, lock_timeout_ms: int = _LOCK_TIMEOUT_MS, tries: int = _TRIES) -> None:
    """Upgrade the schema to the newest migration, as the owner.

    A statement that waits longer than `lock_timeout_ms` for a lock is given up, because all requests that need the
    table wait behind it. Its migration is then tried again after a pause, in all `tries` times.
    """
    config = _config(service, role_url(service_url, "owner"))
    config.attributes["lock_timeout_ms"] = lock_timeout_ms
    for remaining in reversed(range(tries)):
        try:
            command.upgrade(config, "head")
            return
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE or not remaining:
                raise
            log.warning("migration could not get a lock", service=service, tries_left=remaining)
            time.sleep(_PAUSE_S)


def revisions(service: str) -> list[str]:
    """Return the revisions of a service, the oldest first."""
    script = ScriptDirectory.from_config(_config(service))
    return [revision.revision for revision in script.walk_revisions()][::-1]


def render_sql(service: str, revision: str) -> str:
    """Return the SQL of one revision, without a database."""
    config = _config(service)
    config.output_buffer = config.stdout = buffer = StringIO()
    known = revisions(service)
    before = known.index(revision)
    command.upgrade(config, f"{known[before - 1] if before else 'base'}:{revision}", sql=True)
    return buffer.getvalue()


def _config(service: str, url: URL | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder(service)))
    config.attributes["url"] = url
    config.attributes["service"] = service
    return config


def run_migrations() -> None:
    """Run each migration in a transaction, with the version table in the service's schema.

    Every service's `migrations/env.py` calls this. The server ends a statement that waits 2 s for a lock or runs for
    60 s. A migration that must work longer, such as to create an index, sets `statement_timeout` for itself.
    """
    attributes = context.config.attributes
    if context.is_offline_mode():
        context.configure(
            dialect_name="postgresql", transactional_ddl=False, output_buffer=context.config.output_buffer
        )
        context.run_migrations()
        return

    def upgrade(connection: Connection) -> None:
        # The lock is that of the session, because a migration may commit in between. Waiting for it is no danger to
        # requests, so it comes before the time-outs.
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(hashtext(:name))"), {"name": attributes["service"]})
        connection.execute(sqlalchemy.text(f"SET lock_timeout = {int(attributes['lock_timeout_ms'])}"))
        connection.execute(sqlalchemy.text(f"SET statement_timeout = {_STATEMENT_TIMEOUT_MS}"))
        connection.commit()
        context.configure(
            connection=connection, version_table_schema=attributes["service"], transaction_per_migration=True
        )
        with context.begin_transaction():
            context.run_migrations()

    async def connect() -> None:
        engine = create_async_engine(attributes["url"], poolclass=pool.NullPool)
        try:
            async with engine.connect() as connection:
                await connection.run_sync(upgrade)
                await connection.commit()
        finally:
            await engine.dispose()

    asyncio.run(connect())


def protect(table: str, service: str) -> str:
    """Return the statements that force row-level security on a table with `organisation_id`, and grant its use."""
    own = "organisation_id = current_setting('app.organisation_id', true)"
    return f"""
        ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
        ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
        CREATE POLICY tenant ON {table} TO {service}_tenant USING ({own}) WITH CHECK ({own});
        CREATE POLICY all_tenants ON {table} TO {service}_all USING (true) WITH CHECK (true);
        GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {service}_tenant, {service}_all;
    """


def idempotency_table(service: str) -> str:
    """Return the table of the first answers to keyed requests."""
    return f"""
        CREATE TABLE idempotency_keys (
            organisation_id text NOT NULL,
            route text NOT NULL,
            key text NOT NULL,
            body_hash bytea NOT NULL,
            claimed_by uuid,
            claimed_until timestamptz,
            status int,
            content_type text,
            location text,
            body bytea,
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (organisation_id, route, key)
        );
        CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);
        {protect("idempotency_keys", service)}
    """


def erased_opt_outs_table(service: str) -> str:
    """Return the table of the opt-outs of erased phones, and the function that makes the hash of such a phone.

    Only the owner reads the key of the hash. It is in the database and not in the environment, because a lost key would
    end these opt-outs without a sign.
    """
    return f"""
        CREATE TABLE erasure_key (key bytea NOT NULL);
        CREATE UNIQUE INDEX erasure_key_is_one ON erasure_key ((key IS NOT NULL));
        INSERT INTO erasure_key
            SELECT sha256(convert_to(CAST(gen_random_uuid() AS text) || CAST(gen_random_uuid() AS text), 'UTF8'));
        CREATE FUNCTION erased_phone_hash(organisation text, phone text) RETURNS bytea
            LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = {service}, pg_temp
            AS $$ SELECT sha256(k.key || convert_to(organisation || ' ' || phone, 'UTF8')) FROM erasure_key k $$;
        REVOKE ALL ON FUNCTION erased_phone_hash FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION erased_phone_hash TO {service}_tenant, {service}_all;
        CREATE TABLE erased_opt_outs (
            organisation_id text NOT NULL,
            phone_hash bytea NOT NULL,
            changed_at timestamptz NOT NULL,
            source text NOT NULL,
            version bigint NOT NULL,
            PRIMARY KEY (organisation_id, phone_hash)
        );
        {protect("erased_opt_outs", service)}
    """


def statements(*scripts: str) -> Iterator[str]:
    """Return the statements of SQL scripts one by one: asyncpg executes one statement at a time."""
    for script in scripts:
        yield from filter(str.strip, script.split(";"))


def bus_tables(service: str) -> str:
    """Return the tables of the outbox, the dead letters and the last runs of the retention rules.

    A tenant session may insert into the outbox but not read it. A consumer pauses after too many dead letters
    (`common.bus`); those that an operator acknowledged no longer count.
    """
    return f"""
        CREATE TABLE outbox (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            event_id uuid NOT NULL,
            topic text NOT NULL,
            key text NOT NULL,
            body bytea NOT NULL,
            request_id text NOT NULL,
            traceparent text,
            created_at timestamptz NOT NULL DEFAULT now()
        ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
                autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
        GRANT INSERT ON outbox TO {service}_tenant;
        GRANT SELECT, INSERT, UPDATE, DELETE ON outbox TO {service}_all;
        CREATE TABLE dead_letters (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            topic text NOT NULL,
            kafka_partition int NOT NULL,
            kafka_offset bigint NOT NULL,
            sha256 bytea NOT NULL,
            key bytea,
            body bytea NOT NULL,
            error text NOT NULL,
            acknowledged boolean NOT NULL DEFAULT false,
            created_at timestamptz NOT NULL DEFAULT now(),
            UNIQUE (topic, kafka_partition, kafka_offset, sha256)
        );
        CREATE INDEX dead_letters_created_at ON dead_letters (created_at);
        CREATE INDEX dead_letters_counted ON dead_letters (topic, id) WHERE NOT acknowledged;
        GRANT SELECT, INSERT, UPDATE, DELETE ON dead_letters TO {service}_all;
        CREATE TABLE retention_runs (
            rule text PRIMARY KEY,
            days int NOT NULL,
            changed_rows bigint NOT NULL,
            ran_at timestamptz NOT NULL DEFAULT now()
        );
        GRANT SELECT, INSERT, UPDATE, DELETE ON retention_runs TO {service}_all;
    """


def moved_rows_table(service: str) -> str:
    """Return the table of the rows that were imported from an earlier system (`common.moved_rows`).

    `group_id` is that of a membership. `is_compared`: the row has all values of its source, so the check compares them.
    """
    return f"""
        CREATE TABLE moved_rows (
            kind text NOT NULL,
            old_id bigint NOT NULL,
            system text NOT NULL,
            organisation_id text NOT NULL,
            new_id bigint NOT NULL,
            group_id bigint,
            month date,
            hash text NOT NULL,
            is_compared boolean NOT NULL,
            PRIMARY KEY (kind, old_id, system, organisation_id)
        );
        {protect("moved_rows", service)}
    """
