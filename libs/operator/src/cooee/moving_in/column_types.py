"""Check the column types of an earlier system before rows are read."""

from collections.abc import Mapping
from typing import NamedTuple

from cooee.moving_in.columns import SourceColumn, SourceTable

# The names of types are those of `information_schema.columns`. Enumerations are USER-DEFINED.
_NUMBERS = frozenset(("smallint", "integer", "bigint"))
_TIMES = frozenset(("timestamp with time zone", "timestamp without time zone"))
_TEXTS = frozenset(("text", "character varying", "character", "name", "USER-DEFINED"))
_FIELDS_OF_NUMBERS = (
    *("id", "organisation_id", "group_id", "contact_id", "template_id", "parent_id", "message_parts"),
)
_FIELDS_OF_TIMES = ("scheduled_time", "sent_time", "created_at", "updated_at")
_FIELDS_OF_TEXTS = (
    *("clerk_org_id", "clerk_id", "slug", "role", "name", "first_name", "last_name", "phone", "email", "company"),
    *("description", "text", "value", "status", "format", "media_url", "subject", "error"),
)


class ColumnType(NamedTuple):
    """The types that a column may have, and the name of its values in an error."""

    values: str
    types: frozenset[str]


_EXPECTED: Mapping[str, ColumnType] = {
    **dict.fromkeys(_FIELDS_OF_NUMBERS, ColumnType("an integer", _NUMBERS)),
    **dict.fromkeys(_FIELDS_OF_TIMES, ColumnType("a timestamp", _TIMES)),
    **dict.fromkeys(_FIELDS_OF_TEXTS, ColumnType("a text", _TEXTS)),
    **dict.fromkeys(("is_active", "opt_out"), ColumnType("a boolean", frozenset(("boolean",)))),
}
# The ids of users may be of any type, because they are only compared.
_ROLES_OF_ANY_ID = ("user", "membership")
# The statements that read the tables compare these fields with integers.
_JOINED = frozenset(("id", "organisation_id", "group_id", "contact_id", "parent_id"))


class WrongColumn(NamedTuple):
    """A column whose type is not the one that an import reads.

    `is_needed_without_values` says that the type must be right even if all values are null.
    """

    table: SourceTable
    column: SourceColumn
    name: str
    type: str
    values: str
    is_needed_without_values: bool


def find_wrong(table: SourceTable, found: Mapping[str, str]) -> list[WrongColumn]:
    """Return the columns of a table that have a wrong type. `found` has its types by name."""
    wrong = []
    for column in table.columns:
        name = next((name for name in column.names if name in found), None)
        expected = _EXPECTED.get(column.field)
        if name is None or expected is None or (column.field == "id" and table.role in _ROLES_OF_ANY_ID):
            continue
        if found[name] not in expected.types:
            wrong.append(
                WrongColumn(
                    table=table,
                    column=column,
                    name=name,
                    type=found[name],
                    values=expected.values,
                    is_needed_without_values=column.field in _JOINED,
                )
            )
    return wrong


def select_expression(column: SourceColumn, quoted: str, found: str | None) -> str:
    """Return the SQL expression that reads a column of the type `found`.

    Python cannot represent times outside the years 1 to 9999. Such a time is replaced by one that the conversion
    rejects.
    """
    if column.field not in _FIELDS_OF_TIMES or found not in _TIMES:
        return quoted
    return (
        f"CASE WHEN {quoted} > '9999-12-01' THEN '9999-12-01' WHEN {quoted} < '1900-01-01' THEN '1900-01-01'"
        f" ELSE {quoted} END"
    )
