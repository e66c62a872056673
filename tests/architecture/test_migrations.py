"""The SQL of each migration, read by squawk: no dangerous lock, and nothing that breaks the previous release.

docs/contributing.md says how to write such a change in steps.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from common.migrations import render_sql, revisions

from .conftest import SERVICES

STORES = [service for service in SERVICES if service != "gateway"]
# The runner sets the time-outs, and which integer type fits a column is no matter of locks.
EXCLUDED = [
    *("require-lock-timeout", "require-statement-timeout", "require-timeout-settings"),
    *("prefer-text-field", "prefer-bigint-over-int", "prefer-bigint-over-smallint", "prefer-identity"),
    *("prefer-timestamp-tz", "prefer-robust-stmts"),
]
POSTGRESQL = "17"  # the oldest that runs in production


def findings(sql: str) -> list[str]:
    """Return what squawk finds in the statements of one migration, which run in one transaction."""
    squawk = Path(sys.executable).with_name("squawk")
    command = [squawk, "--assume-in-transaction", "--pg-version", POSTGRESQL, "--reporter", "json"]
    ended = subprocess.run(
        [*command, "--exclude", ",".join(EXCLUDED), "--stdin-filepath", "migration.sql"],
        input=sql,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout, ended.stderr
    return [f"line {one['line'] + 1}: {one['rule_name']}: {one['message']}" for one in json.loads(ended.stdout)]


@pytest.mark.parametrize(
    ("service", "revision"), [(service, revision) for service in STORES for revision in revisions(service)]
)
def test_a_migration_takes_no_dangerous_lock_and_breaks_no_running_code(service: str, revision: str) -> None:
    assert findings(render_sql(service, revision)) == []


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("CREATE INDEX messages_phone ON messages (phone);", "require-concurrent-index-creation"),
        ("DROP INDEX messages_phone;", "require-concurrent-index-deletion"),
        ("ALTER TABLE messages ADD COLUMN colour text NOT NULL;", "adding-required-field"),
        ("ALTER TABLE messages ADD COLUMN number uuid DEFAULT gen_random_uuid();", "adding-field-with-default"),
        ("ALTER TABLE messages ALTER COLUMN phone SET NOT NULL;", "adding-not-nullable-field"),
        ("ALTER TABLE messages ALTER COLUMN phone TYPE varchar(9);", "changing-column-type"),
        ("ALTER TABLE messages ADD CONSTRAINT short CHECK (phone <> '');", "constraint-missing-not-valid"),
        ("ALTER TABLE messages DROP COLUMN phone;", "ban-drop-column"),
        ("ALTER TABLE messages RENAME COLUMN phone TO recipient;", "renaming-column"),
        ("DROP TABLE messages;", "ban-drop-table"),
    ],
)
def test_a_dangerous_statement_is_found(statement: str, rule: str) -> None:
    assert rule in str(findings(statement))


def test_an_expanding_migration_is_accepted() -> None:
    assert findings("ALTER TABLE messages ADD COLUMN colour text; CREATE TABLE colours (name text PRIMARY KEY);") == []


def test_a_contraction_is_accepted_where_a_comment_names_the_rule() -> None:
    assert findings("-- squawk-ignore ban-drop-column\nALTER TABLE messages DROP COLUMN colour;") == []
