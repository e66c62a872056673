"""Delete old rows, or remove their content, in small batches: one loop in each worker, for all tables of the service.

A rule names rows of a table, their age and what happens to them. Each batch is a transaction of its own, the oldest
rows first, and a pause follows it. So no statement is long, and the work of the service is not delayed.
"""
# ruff: noqa: S608 (the parts of the statements are constants of the services)

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import NamedTuple

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from common.database import Database, in_transaction
from common.loops import Loop, report_rows
from common.settings import StoreSettings, env_name

BATCH = 1000
COUNTED = 100_000
_INTERVAL_S = 3600.0
_PAUSE_S = 0.1
_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtext(:name))")
_SAVE_RUN = text(
    """
    INSERT INTO retention_runs AS r (rule, days, changed_rows) VALUES (:rule, :days, :rows)
    ON CONFLICT (rule) DO UPDATE
    SET days = excluded.days, changed_rows = r.changed_rows + excluded.changed_rows, ran_at = now()
    """
)
_RUNS = text("SELECT rule, days, changed_rows, ran_at FROM retention_runs")


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to rows of a table at an age.

    `days` is a field of the settings, or a fixed number. `age` is the column with the time from which the age counts.
    `change` is the SET clause for these rows; without one they are deleted. `source` is a FROM clause where `r` is the
    table. An index must give the rows of `source` and `condition` in the order of `age`.

    `also` is a statement that runs in the same transaction on the deleted rows `gone`, which have the columns of
    `returning`.
    """

    name: str
    table: str
    age: str
    days: str | int
    condition: str = "true"
    change: str = ""
    source: str = ""
    returning: str = "1"
    also: str = ""

    @property
    def due(self) -> str:
        """The FROM and WHERE clauses of the rows that are old enough."""
        return f"{self._of_any_age} AND {self.age} < now() - make_interval(days => :days)"

    @property
    def _of_any_age(self) -> str:
        return f"FROM {self.source or f'{self.table} r'} WHERE {self.condition}"

    def statement(self) -> TextClause:
        """Return the statement that handles at most `:batch` rows, the oldest first, and returns how many."""
        found = f"SELECT r.ctid {self.due} ORDER BY {self.age} LIMIT :batch FOR UPDATE OF r SKIP LOCKED"
        action = f"UPDATE {self.table} SET {self.change}" if self.change else f"DELETE FROM {self.table}"
        also = f", also AS ({self.also})" if self.also else ""
        return text(
            f"""
            WITH gone AS ({action} WHERE ctid = ANY(ARRAY({found})) RETURNING {self.returning}){also}
            SELECT count(*) FROM gone
            """
        )

    def count_statement(self) -> TextClause:
        """Return the statement that counts due rows, up to `COUNTED`, and finds the time of the oldest row."""
        return text(
            f"""
            SELECT (SELECT count(*) FROM (SELECT 1 {self.due} LIMIT {COUNTED}) AS due),
                   (SELECT {self.age} {self._of_any_age} ORDER BY {self.age} LIMIT 1)
            """
        )

    def days_of(self, settings: StoreSettings) -> int:
        """Return the age in days at which the rule applies."""
        return int(getattr(settings, self.days)) if isinstance(self.days, str) else self.days

    def setting(self, settings: type[StoreSettings]) -> str | None:
        """Return the environment variable that sets the age, or None when it is fixed."""
        return env_name(settings, self.days) if isinstance(self.days, str) else None


class RuleState(NamedTuple):
    """The state of a rule. Without a run its `days` are those of the caller, and `ran_at` is None.

    `due` rows are counted up to `COUNTED`. `oldest` is the time of the oldest row that the rule has not handled yet.
    """

    days: int
    due: int
    oldest: datetime | None
    changed_rows: int
    ran_at: datetime | None


# The rules of the tables that every service has.
COMMON_RULES = (
    Rule("idempotency keys", "idempotency_keys", age="r.created_at", days=1),
    Rule("dead letters", "dead_letters", "r.created_at", "retention_dead_letter_days", condition="r.acknowledged"),
)


def make_loop(database: Database, settings: StoreSettings, rules: Sequence[Rule]) -> Loop:
    """Return the loop that applies the rules every hour, and again after a short pause while there is more."""
    return Loop("retention", partial(apply_rules, database, settings, rules), _INTERVAL_S)


async def apply_rules(database: Database, settings: StoreSettings, rules: Sequence[Rule]) -> bool | float:
    """Apply one batch of each rule. Return the pause before the next step in seconds, or False if nothing is left."""
    is_full = False
    for rule in rules:
        apply = partial(apply_rule, service=settings.service, rule=rule, days=rule.days_of(settings))
        rows = await in_transaction(database.all_tenants, apply)
        if rows is None:
            return False
        report_rows(rows)
        is_full |= rows == BATCH
    return _PAUSE_S if is_full else False


async def apply_rule(session: AsyncSession, service: str, rule: Rule, days: int) -> int | None:
    """Apply a rule to at most `BATCH` rows and return how many, or None while another worker of the service does."""
    if not await session.scalar(_LOCK, {"name": f"{service}.retention"}):
        return None
    rows = int(await session.scalar(rule.statement(), {"days": days, "batch": BATCH}) or 0)
    await session.execute(_SAVE_RUN, {"rule": rule.name, "days": days, "rows": rows})
    return rows


async def read_states(session: AsyncSession, rules: Mapping[Rule, int]) -> dict[Rule, RuleState]:
    """Return the states of rules (rule → days to use when it never ran), by the days of their last run."""
    runs = {run.rule: run for run in await session.execute(_RUNS)}
    states = {}
    for rule, days in rules.items():
        run = runs.get(rule.name)
        used = run.days if run is not None else days
        due, oldest = (await session.execute(rule.count_statement(), {"days": used})).one()
        states[rule] = RuleState(
            days=used,
            due=due,
            oldest=oldest,
            changed_rows=run.changed_rows if run is not None else 0,
            ran_at=run.ran_at if run is not None else None,
        )
    return states
