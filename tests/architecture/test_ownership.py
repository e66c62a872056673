"""A table has one owner: its rows are written by the files that are listed here, and by no others."""

import re
from collections import defaultdict
from pathlib import Path

from .conftest import ROOT, tracked

WRITE = re.compile(r"\b(?:INSERT INTO|DELETE FROM|UPDATE)\s+([a-z_]+)\b|\b(?:insert|update|delete)\(([a-z_]+)\)")
NO_TABLES = {"set", "of", "table", "names", "environment", "topics", "nothing", "it"}
COMMON = "libs/common/src/common"
# By service and table, relative to the service's package.
OWNERS: dict[str, dict[str, set[str]]] = {
    "contacts": {
        "contacts": {"contacts/repository.py", "erasure/repository.py", "moving_in/repository.py"},
        "erasures": {"erasure/repository.py"},
        "operator_actions": {"operator_actions/repository.py"},
        "opt_outs": {"contacts/repository.py", "erasure/repository.py"},
        "erased_opt_outs": {"contacts/repository.py", "erasure/repository.py"},
        "groups": {"groups/repository.py", "moving_in/repository.py"},
        "group_members": {"groups/repository.py", "moving_in/repository.py"},
        "moved_rows": {"moving_in/repository.py"},  # those of members that an earlier system removed
        "imports": {"imports/repository.py"},
        **{table: {"identity/repository.py"} for table in ("users", "organisations", "memberships")},
    },
    "scheduling": {
        # A schedule goes through all of these features; each writes the columns of its own step.
        "schedules": {
            *("schedules/repository.py", "batches/repository.py", "dispatch/repository.py"),
            *("outcomes/repository.py", "recipients/repository.py", "retries/repository.py"),
            *("erasure/repository.py", "moving_in/repository.py"),
        },
        "contact_changes": {"recipients/repository.py"},
        "organisations": {"organisations/repository.py"},
        "templates": {"templates/repository.py", "moving_in/repository.py"},
        "template_versions": {"templates/repository.py", "moving_in/repository.py"},
        "batch_counts": {"retention.py"},  # those of deleted batches
        "outbox": {"schedules/repository.py"},  # a schedule and its event in one statement
    },
    "delivery": {
        "messages": {"messages/repository.py", "erasure/repository.py"},
        "submissions": {"sending/submissions.py"},
        "pauses": {"pauses/repository.py"},
        "limit_usage": {"limits/repository.py"},
        "reservations": {"limits/repository.py"},
        "configs": {"configs/repository.py", "moving_in/repository.py"},
        "moved_usage": {"limits/repository.py"},
        "sender_ids": {"sender_ids/repository.py"},
        "opt_outs": {"opt_outs/repository.py", "erasure/repository.py"},
        "erased_opt_outs": {"opt_outs/repository.py", "erasure/repository.py"},
        "contact_opt_outs": {"opt_outs/repository.py"},
        "webhook_events": {"receipts/repository.py", "erasure/repository.py"},
        "inbound_messages": {"inbound/repository.py", "erasure/repository.py"},
        "media": {"media/repository.py"},
        "organisations": {"organisations/repository.py"},
    },
}
SHARED = {
    "erasure_key": {f"{COMMON}/migrations.py"},
    "outbox": {f"{COMMON}/outbox.py", f"{COMMON}/relay.py", "libs/operator/src/cooee/commands/dead_letters.py"},
    "dead_letters": {
        *(f"{COMMON}/bus.py", f"{COMMON}/relay.py"),
        *("libs/operator/src/cooee/commands/dead_letters.py", "libs/operator/src/cooee/commands/erase.py"),
    },
    "moved_rows": {f"{COMMON}/moved_rows.py"},
    "idempotency_keys": {f"{COMMON}/idempotency.py"},
    "retention_runs": {f"{COMMON}/retention.py"},
}
# Files that write to stacks of their own. File → what it writes.
OWN_STACKS = {
    "tools/bench/growth_rows.py": "millions of rows",
    "tools/backlogs/outbox.py": "a million events in the outbox",
    "tools/backlogs/world.py": "a hundred thousand schedules that are due at once",
    "tools/chaos/audit.py": "its own schema, and the time of a check",
}


def owners() -> dict[str, set[str]]:
    """Return the files that may write each table, whichever service it belongs to."""
    found: dict[str, set[str]] = defaultdict(set)
    for service, tables in OWNERS.items():
        for table, files in tables.items():
            found[table] |= {f"services/{service}/src/{service}/{file}" for file in files}
    for table, files in SHARED.items():
        found[table] |= files
    return found


def writers() -> dict[str, set[str]]:
    """Return the files that write each table."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in tracked():
        name = str(path.relative_to(ROOT))
        is_production = "/src/" in name or name.startswith("tools/")
        if path.suffix != ".py" or not is_production or "/tests/" in name or name in OWN_STACKS:
            continue
        for match in WRITE.finditer(Path(path).read_text()):
            table = match[1] or match[2]
            if table not in NO_TABLES:
                found[table].add(name)
    return found


def test_a_table_is_written_by_its_owner_alone() -> None:
    allowed = owners()
    wrong = [f"{file} writes {table}" for table, files in writers().items() for file in files - allowed[table]]
    assert not wrong


def test_every_listed_owner_writes_its_table() -> None:
    found = writers()
    unused = [f"{file} does not write {table}" for table, files in owners().items() for file in files - found[table]]
    assert not unused
