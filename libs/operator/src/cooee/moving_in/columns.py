"""Describe how an earlier system is read: its tables, their columns, and what becomes of each.

docs/moving-in.md has the same tables of columns, and a test compares both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scheduling.models import ScheduleStatus

ACTIVE = "null is true"
USER = "the id of the user here; null for an unknown one"
TIME = "a time without a zone is UTC"
OF_NEW_ORGANISATION = "used only if the organisation is new here"
OF_NEW_USER = "used only if the user is new here"
OF_TEMPLATE = "refers to version 1; null if the template was not imported"
OF_FAILED = "for failed messages only; null becomes 'The earlier system could not send it.'"
SENT_TIME = f"{TIME}; left out for a message that is pending there"
OF_BATCH_TIME = f"{TIME}; null is `sent_time`, then `created_at`"
OF_MESSAGE_TIME = f"{TIME}; null is the batch's `scheduled_time`, then `sent_time`, then `created_at`"


@dataclass(frozen=True)
class SourceColumn:
    """A column of an earlier system. The first of `names` that its table has is read as `field`.

    `target` is where it goes, and `rule` how it changes on the way. Without `required` a table may have none of the
    names. The SQL expression `absent` is read then.
    """

    field: str
    names: tuple[str, ...]
    target: str
    rule: str = "as it is"
    required: bool = True
    absent: str = "NULL"


@dataclass(frozen=True)
class SourceTable:
    """A table of an earlier system. `role` says what its rows are, and is the same for all systems."""

    role: str
    name: str
    columns: tuple[SourceColumn, ...]


@dataclass(frozen=True)
class SchedulePass:
    """A reading of schedules: the rows of a table that meet a condition, and the table that has their batches.

    `label` is the label of this pass in the progress.
    """

    table: SourceTable
    batches: SourceTable
    label: str
    condition: str = "true"


@dataclass(frozen=True)
class System:
    """An earlier system. `prefix` is what the names of its tables begin with.

    `statuses` has its words in small letters. `count_parts` returns the parts of a text as the system counted them.
    Without `has_organisations` all of its rows belong to one organisation.
    """

    name: str
    tables: tuple[SourceTable, ...]
    passes: tuple[SchedulePass, ...]
    statuses: Mapping[str, ScheduleStatus]
    count_parts: Callable[[str], int]
    prefix: str = ""
    has_organisations: bool = True

    def table(self, role: str) -> SourceTable:
        """Return the table whose rows have a role."""
        return next(table for table in self.tables if table.role == role)
