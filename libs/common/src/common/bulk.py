"""Columns of a bulk statement, declared once: PostgreSQL's `unnest` clause and its bind values."""

from collections.abc import Iterable, Sequence
from typing import Any


class Columns:
    """The columns of rows that one statement inserts or updates, as name → PostgreSQL type.

    The bind parameter of a column has the column's name, so a statement's own parameters need other names.
    """

    def __init__(self, **types: str) -> None:
        self.names = tuple(types)
        self._types = types

    def unnest(self, alias: str) -> str:
        """Return `unnest(…) AS alias (columns)` for the FROM clause of a statement."""
        arrays = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in self._types.items())
        return f"unnest({arrays}) AS {alias} ({', '.join(self.names)})"

    def array(self, name: str) -> str:
        """Return the array of one column, for a condition such as `id = ANY(…)`."""
        return f"CAST(:{name} AS {self._types[name]}[])"

    def bind(self, rows: Iterable[Any], **columns: Sequence[Any]) -> dict[str, list[Any]]:
        """Return the bind values of rows that have the columns as attributes.

        `columns` gives the values of columns that the rows do not have, in the order of the rows.
        """
        listed = list(rows)
        return {
            name: list(columns[name]) if name in columns else [getattr(row, name) for row in listed]
            for name in self.names
        }

    def bind_tuples(self, rows: Iterable[Sequence[Any]]) -> dict[str, list[Any]]:
        """Return the bind values of rows given as tuples in the order of the columns."""
        listed = list(rows)
        return {name: [row[place] for row in listed] for place, name in enumerate(self.names)}
