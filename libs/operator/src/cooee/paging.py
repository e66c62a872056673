"""Pages of a list that a command prints."""

from typing import TypeVar

Row = TypeVar("Row")


def take_page(rows: list[Row], limit: int) -> tuple[list[Row], Row | None]:
    """Return the page of `limit` rows, and its last row if more follow. `rows` has one more row than the page then."""
    page = rows[:limit]
    return page, page[-1] if len(rows) > limit else None
