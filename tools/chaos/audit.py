"""The audit of a chaos run, and what is open or left in the schemas of the services.

The audit is a schema of this tool. Triggers write there when a submission or a dispatch begins, and each usage, because
the services delete or overwrite these values.
"""

# ruff: noqa: S608 (the statements are put together from constants)
import asyncpg

from delivery.models import OPEN, sql_list
from scheduling.models import OPEN as OPEN_SCHEDULES
from tools.embedded.environment import STORES

AUDIT = """
    CREATE SCHEMA chaos;
    CREATE TABLE chaos.tries (message_ids bigint[] NOT NULL, key uuid NOT NULL, began timestamptz NOT NULL);
    CREATE TABLE chaos.dispatches (schedule_id bigint, dispatch_number int, began timestamptz NOT NULL);
    CREATE TABLE chaos.usages (organisation_id text NOT NULL, format text NOT NULL, usage bigint NOT NULL);
    CREATE FUNCTION chaos.add_try() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = chaos AS $$
        BEGIN INSERT INTO tries VALUES (NEW.message_ids, NEW.key, now()); RETURN NULL; END $$;
    CREATE FUNCTION chaos.add_dispatch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = chaos AS $$
        BEGIN INSERT INTO dispatches VALUES (NEW.id, NEW.dispatch_number, now()); RETURN NULL; END $$;
    CREATE FUNCTION chaos.add_usage() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = chaos AS $$
        BEGIN INSERT INTO usages VALUES (NEW.organisation_id, NEW.format, NEW.usage); RETURN NULL; END $$;
    CREATE TRIGGER chaos AFTER INSERT OR UPDATE OF tries ON delivery.submissions
        FOR EACH ROW EXECUTE FUNCTION chaos.add_try();
    CREATE TRIGGER chaos AFTER INSERT OR UPDATE OF status ON scheduling.schedules
        FOR EACH ROW WHEN (NEW.status = 'processing' AND NEW.kind <> 'batch') EXECUTE FUNCTION chaos.add_dispatch();
    CREATE TRIGGER chaos AFTER INSERT OR UPDATE OF usage ON delivery.limit_usage
        FOR EACH ROW EXECUTE FUNCTION chaos.add_usage();
"""
_OPEN = {
    "open schedules": f"""SELECT count(*) FROM scheduling.shown_schedules
        WHERE status IN ({sql_list(OPEN_SCHEDULES)})""",
    "open messages": f"SELECT count(*) FROM delivery.messages WHERE status IN ({sql_list(OPEN)})",
    "submissions": "SELECT count(*) FROM delivery.submissions",
    **{f"outbox of {service}": f"SELECT count(*) FROM {service}.outbox" for service in STORES},
}
LEFT = {
    **_OPEN,
    "reservations": "SELECT count(*) FROM delivery.reservations",
    **{f"dead letters of {service}": f"SELECT count(*) FROM {service}.dead_letters" for service in STORES},
}
# Once no request runs, a reservation without a schedule needs no further wait before it is checked.
_CHECK_NOW = "UPDATE delivery.reservations SET check_at = now() WHERE check_at > now()"
TIMEOUT_S = 10.0


async def install_audit(admin_url: str) -> None:
    """Create the schema of the audit and its triggers."""
    connection = await asyncpg.connect(admin_url, timeout=TIMEOUT_S)
    try:
        await connection.execute(AUDIT)
    finally:
        await connection.close()


async def count_open(admin_url: str, *, also_left: bool = False) -> dict[str, int]:
    """Return what has no outcome yet, or with `also_left` everything that must be zero at the end.

    With `also_left` the check of the reservations is brought forward. Raises OSError or PostgresError.
    """
    connection = await asyncpg.connect(admin_url, timeout=TIMEOUT_S)
    try:
        if also_left:
            await connection.execute(_CHECK_NOW)
        statements = LEFT if also_left else _OPEN
        return {name: await connection.fetchval(statement) for name, statement in statements.items()}
    finally:
        await connection.close()
