"""The command `retention`: what the rules of each service keep, for how long, and what is due."""

import argparse
from typing import Any

from common.retention import COUNTED, Rule, RuleState, read_states
from common.settings import StoreSettings
from contacts.retention import ALL_RULES as CONTACTS_RULES
from contacts.settings import Settings as ContactsSettings
from cooee.command import Command, Report
from cooee.output import show_time, table
from cooee.stack import Stack
from delivery.retention import ALL_RULES as DELIVERY_RULES
from delivery.settings import Settings as DeliverySettings
from scheduling.retention import ALL_RULES as SCHEDULING_RULES
from scheduling.settings import Settings as SchedulingSettings

_RULES: dict[str, tuple[type[StoreSettings], tuple[Rule, ...]]] = {
    "contacts": (ContactsSettings, CONTACTS_RULES),
    "scheduling": (SchedulingSettings, SCHEDULING_RULES),
    "delivery": (DeliverySettings, DELIVERY_RULES),
}


async def retention(stack: Stack, _: argparse.Namespace) -> Report:
    """List the retention rules: their age, the rows that are due, the oldest row, and the last run of a worker.

    The age is the one that the worker used in its last run. Workers run every hour.
    """
    found: list[dict[str, Any]] = []
    cells = []
    for service, (settings, rules) in _RULES.items():
        # The age before the first run is only a guess: the worker has settings of its own.
        defaults = {rule: _default_days(rule, settings) for rule in rules}
        async with stack.session(service) as session:
            states = await read_states(session, defaults)
        for rule, state in states.items():
            one = _describe(service, rule, settings, state)
            found.append(one)
            due = f"{COUNTED:,} or more" if state.due == COUNTED else f"{state.due:,}"
            age = f"{state.days} d"
            times = show_time(state.oldest), show_time(state.ran_at)
            cells.append((service, rule.name, one["action"], age, due, *times, one["setting"]))
    headings = ("service", "rule", "action", "age", "due", "oldest", "last run", "setting")
    return Report({"rules": found}, table(headings, cells))


def _default_days(rule: Rule, settings: type[StoreSettings]) -> int:
    return int(settings.model_fields[rule.days].default) if isinstance(rule.days, str) else rule.days


def _describe(service: str, rule: Rule, settings: type[StoreSettings], state: RuleState) -> dict[str, Any]:
    return {
        "service": service,
        "rule": rule.name,
        "action": "changes" if rule.change else "deletes",
        "setting": rule.setting(settings),
        "days": state.days,
        "rows_due": state.due,
        "oldest": state.oldest,
        "last_run": state.ran_at,
        "rows_handled": state.changed_rows,
    }


COMMAND = Command("retention", "list what is kept for how long, and what is due", retention)
