"""A retention rule handles the oldest rows in batches, skips locked rows, and runs in one worker at a time."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from pydantic import ValidationError
from sqlalchemy import make_url, text

from common.database import Database
from common.retention import BATCH, COMMON_RULES, Rule, apply_rule, apply_rules, read_states
from common.settings import MessageStoreSettings

NOTES = Rule("notes", "notes", age="r.written_at", days=30, condition="r.body <> ''", change="body = ''")
OLD_NOTES = Rule("old notes", "notes", age="r.written_at", days="retention_message_days", condition="r.body = ''")
RULES = (NOTES, OLD_NOTES, *COMMON_RULES)


class Settings(MessageStoreSettings):
    service = "sample"


def make_settings(url: str = "postgresql://x", **changes: Any) -> Settings:
    secret = "test-secret-test-secret-test-secret-0"
    values = {"port": 0, "worker_port": 0, "database_url": url, "kafka_bootstrap_servers": "x", **changes}
    return Settings(internal_token_secret=secret, **values)


@pytest.fixture
async def settings(database: Database, sample_url: str) -> AsyncIterator[Settings]:
    owner = make_url(sample_url).set(username="sample_owner").render_as_string(hide_password=False)
    connection = await asyncpg.connect(owner)
    await connection.execute("ALTER TABLE notes ADD written_at timestamptz NOT NULL DEFAULT now()")
    yield make_settings(sample_url)
    await connection.execute("ALTER TABLE notes DROP written_at")
    await connection.close()


async def add(database: Database, number: int, age_days: int, body: str = "x") -> None:
    async with database.all_tenants() as session:
        await session.execute(
            text(
                "INSERT INTO notes (organisation_id, body, version, written_at) SELECT 'org_1', :body, n,"
                " now() - make_interval(days => :age, secs => :number - n) FROM generate_series(1, :number) n"
            ),
            {"number": number, "age": age_days, "body": body},
        )


async def count(database: Database, condition: str) -> int:
    async with database.all_tenants() as session:
        return int(await session.scalar(text(f"SELECT count(*) FROM notes WHERE {condition}")) or 0)


async def test_the_oldest_rows_of_a_batch_are_changed_first_and_young_ones_never(
    database: Database, settings: Settings
) -> None:
    await add(database, BATCH + 5, 31)
    await add(database, 3, 29)
    assert await apply_rules(database, settings, RULES)
    assert await count(database, "body <> '' AND written_at < now() - interval '30 days'") == 5
    assert await count(database, f"body = '' AND version > {BATCH}") == 0
    assert await apply_rules(database, settings, RULES) is False
    assert await count(database, "body <> ''") == 3
    await add(database, 2, 731, "")
    await apply_rules(database, settings, RULES)
    assert await count(database, "true") == BATCH + 8


async def test_a_row_that_is_locked_is_skipped_and_another_worker_waits_for_its_turn(
    database: Database, settings: Settings
) -> None:
    await add(database, 3, 31)
    async with database.all_tenants() as user:
        await user.execute(text("SELECT FROM notes WHERE version = 1 FOR UPDATE"))
        async with database.all_tenants() as first, database.all_tenants() as second:
            assert await apply_rule(first, "sample", NOTES, 30) == 2
            assert await apply_rule(second, "sample", NOTES, 30) is None
    await apply_rules(database, settings, RULES)
    assert await count(database, "body <> ''") == 0


async def test_states_show_what_is_due_and_the_last_run(database: Database, settings: Settings) -> None:
    await add(database, 4, 31)
    async with database.all_tenants() as session:
        state = (await read_states(session, {NOTES: 90}))[NOTES]
        assert (state.days, state.due, state.ran_at, state.changed_rows) == (90, 0, None, 0)
        assert state.oldest is not None
    await apply_rules(database, settings, RULES)
    await add(database, 2, 31)
    async with database.all_tenants() as session:
        state = (await read_states(session, {NOTES: 90}))[NOTES]
    assert (state.days, state.due, state.changed_rows) == (30, 2, 4)
    assert state.ran_at is not None


async def test_acknowledged_dead_letters_and_old_idempotency_keys_are_deleted(
    database: Database, settings: Settings
) -> None:
    async with database.all_tenants() as session:
        await session.execute(
            text(
                "INSERT INTO dead_letters (topic, kafka_partition, kafka_offset, sha256, body, error, acknowledged,"
                " created_at) SELECT 't', 0, n, '', '', '', n <> 1, now() - make_interval(days => 87 + n)"
                " FROM generate_series(1, 3) n"
            )
        )
        await session.execute(
            text(
                "INSERT INTO idempotency_keys (organisation_id, route, key, body_hash, created_at)"
                " SELECT 'org_1', '/', CAST(n AS text), '', now() - make_interval(hours => 23 + 2 * n)"
                " FROM generate_series(0, 1) n"
            )
        )
        await session.execute(text("UPDATE dead_letters SET created_at = now() - interval '1 year' WHERE id = 1"))
    await apply_rules(database, settings, RULES)
    async with database.all_tenants() as session:
        assert (await session.scalars(text("SELECT kafka_offset FROM dead_letters ORDER BY 1"))).all() == [1, 2]
        assert (await session.scalars(text("SELECT key FROM idempotency_keys"))).all() == ["0"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"retention_message_text_days": 0}, "retention_message_text_days"),
        ({"retention_message_days": 399}, "retention_message_days"),
        ({"retention_message_days": 500, "retention_message_text_days": 501}, "RETENTION_MESSAGE_TEXT_DAYS"),
        ({"retention_dead_letter_days": "x"}, "retention_dead_letter_days"),
    ],
)
def test_an_impossible_age_is_refused_and_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        make_settings(**changes)
