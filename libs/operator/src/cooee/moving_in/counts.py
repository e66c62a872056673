"""Counts, checksums and problems of an import: what the source has, and whether the same is here."""

import csv
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, TextIO

from common.moved_rows import CheckedMonth
from cooee.errors import CommandError

_FIRST_PROBLEMS = 20  # that the JSON document has
_PROGRESS_S = 2.0


@dataclass
class MonthCounts:
    """The rows of a table and a month in the source, by outcome. `checksum` is that of the imported ones."""

    imported: int = 0
    merged: int = 0
    pending_cut_over: int = 0
    rejected: int = 0
    checksum: int = 0

    @property
    def rows(self) -> int:
        """The number of rows in the source."""
        return self.imported + self.merged + self.pending_cut_over + self.rejected


@dataclass(frozen=True)
class Line:
    """A table and a month of the source beside the same rows here."""

    kind: str
    month: date | None
    source: MonthCounts
    rows: int
    checksum: int

    @property
    def agrees(self) -> bool:
        """Return whether every imported row is here with its values."""
        return self.rows == self.source.imported + self.source.merged and self.checksum == self.source.checksum


@dataclass
class Counts:
    """The numbers of rows that an import has read and written so far."""

    months: dict[tuple[str, date | None], MonthCounts] = field(default_factory=lambda: defaultdict(MonthCounts))
    added: int = 0
    updated: int = 0

    def lines(self, checked: Iterable[CheckedMonth]) -> list[Line]:
        """Return the source beside what is here, by table and month."""
        here = {(one.kind, one.month): one for one in checked}
        keys = sorted({*self.months, *here}, key=lambda key: (key[0], key[1] or date.min))
        return [
            Line(
                kind=kind,
                month=month,
                source=self.months[kind, month],
                rows=found.rows if found else 0,
                checksum=found.checksum if found else 0,
            )
            for kind, month in keys
            for found in [here.get((kind, month))]
        ]


@dataclass
class ReasonCount:
    """The number of rows with one reason, and the old id of the first."""

    first_id: int | str
    rows: int = 0


class Problems:
    """The report of rows that were rejected, merged or changed on the way.

    A CSV file has a line for each of them. `by_reason` has the number of rows with each reason, and `first` has the
    first problems for the JSON document.
    """

    def __init__(self, path: Path | None) -> None:
        self.first: list[Mapping[str, Any]] = []
        self.numbers: dict[str, int] = defaultdict(int)
        self._reasons: dict[tuple[str, str, str], ReasonCount] = {}
        self._file = _open(path) if path else None
        self._writer = csv.writer(self._file) if self._file else None
        if self._writer:
            self._writer.writerow(("table", "id", "outcome", "reason"))

    def add(self, table: str, old_id: int | str, outcome: str, reason: str, *, detail: str = "") -> None:
        """Add a row of the source with its outcome.

        `detail` is added to the reason in the report and not grouped.
        """
        self.numbers[outcome] += 1
        key = (table, outcome, reason)
        if (counted := self._reasons.get(key)) is None:
            counted = self._reasons[key] = ReasonCount(old_id)
        counted.rows += 1
        if detail:
            reason = f"{reason.removesuffix('.')}: {detail}"
        if len(self.first) < _FIRST_PROBLEMS:
            self.first.append({"table": table, "id": old_id, "outcome": outcome, "reason": reason})
        if self._writer:
            self._writer.writerow((table, old_id, outcome, reason))

    @property
    def by_reason(self) -> list[Mapping[str, Any]]:
        """The number of rows by table, outcome and reason, with an example. The most frequent is first."""
        found = sorted(self._reasons.items(), key=lambda one: (-one[1].rows, one[0]))
        return [
            {"table": table, "outcome": outcome, "reason": reason, "rows": one.rows, "first_id": str(one.first_id)}
            for (table, outcome, reason), one in found
        ]

    def close(self) -> None:
        """Write the rest of the file."""
        if self._file:
            self._file.close()


def write_csv(path: Path, heading: tuple[str, ...]) -> "tuple[TextIO, Any]":
    """Open a CSV file and write its heading. Return the file and its writer."""
    file = _open(path)
    writer = csv.writer(file)
    writer.writerow(heading)
    return file, writer


def _open(path: Path) -> TextIO:
    try:
        return path.open("w", newline="", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None


class Progress:
    """Lines on standard error: how many rows of a table were read, and how fast."""

    def __init__(self, table: str, total: int) -> None:
        self._table, self._total, self._done = table, total, 0
        self._began = self._shown = time.monotonic()

    def add(self, rows: int) -> None:
        """Count rows, and show the number every two seconds."""
        self._done += rows
        if time.monotonic() - self._shown >= _PROGRESS_S:
            self.show()

    def show(self) -> None:
        """Show the number of rows."""
        self._shown = time.monotonic()
        rate = self._done / max(self._shown - self._began, 0.001)
        sys.stderr.write(f"{self._table}: {self._done:,} of {self._total:,} rows, {rate:,.0f} rows/s\n")
        sys.stderr.flush()
