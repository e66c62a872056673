"""How values are shown: tables, times, counts and masked phones for a person, one JSON document for a script."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return aligned lines under a line of headings. Columns of numbers are aligned to the right."""
    found = [list(row) for row in rows]
    numeric = [all(isinstance(row[column], int) for row in found) for column in range(len(headings))]
    cells = [[heading.upper() for heading in headings]] + [[_cell(value) for value in row] for row in found]
    widths = [max(len(line[column]) for line in cells) for column in range(len(headings))]
    return ["  ".join(map(_align, line, widths, numeric)).rstrip() for line in cells]


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _align(cell: str, width: int, numeric: bool) -> str:
    return cell.rjust(width) if numeric else cell.ljust(width)


def printable(line: str) -> str:
    """Return a line without control characters, which a text or an error could use to change the terminal."""
    return "".join(character if character.isprintable() else "�" for character in line)


def to_json(document: Mapping[str, Any]) -> str:
    """Return a document as JSON. Times are in UTC and in ISO 8601; ids that are no numbers are strings."""
    return json.dumps(document, indent=2, ensure_ascii=False, default=_encode)


def _encode(value: object) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, datetime) else str(value)


def show_time(moment: datetime | None) -> str:
    """Return a time in UTC, to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z" if moment else "-"


def show_age(moment: datetime | None) -> str:
    """Return the time since or until a moment, in the largest unit that fits."""
    if moment is None:
        return "-"
    seconds = (datetime.now(UTC) - moment).total_seconds()
    for symbol, length_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if abs(seconds) >= length_s * 2:
            return f"{abs(seconds) / length_s:.0f} {symbol}" + (" ago" if seconds > 0 else " ahead")
    return f"{abs(seconds):.0f} s" + (" ago" if seconds > 0 else " ahead")


def quantity(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as `1 message` or `2,000 messages`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def is_or_are(number: int) -> str:
    """Return the verb after a quantity."""
    return "is" if number == 1 else "are"


def mask(phone: str | None, show: bool) -> str | None:
    """Return a phone with its middle digits hidden, unless `show` is set."""
    return phone if show or not phone else f"{phone[:4]}…{phone[-2:]}"
