"""Reads a file of contacts: CSV as spreadsheets write it, row by row, in bounded memory."""

import csv
import io
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from common.fields import clean_text
from common.phones import InvalidPhone, normalise_phone
from contacts.contacts.schemas import check_email
from contacts.errors import NotCsv

FIELDS = ("phone", "first_name", "last_name", "email", "company")
_LENGTHS = {"first_name": 100, "last_name": 100, "email": 254, "company": 200}
_ALIASES = {
    "phone": "phone phonenumber phoneno mobile mobilenumber mobileno mobilephone mobilephonenumber cell cellphone"
    " cellnumber telephone tel msisdn contactnumber number",
    "first_name": "firstname first givenname given givennames forename fname christianname",
    "last_name": "lastname last surname familyname family lname",
    "email": "email emailaddress mail emailid",
    "company": "company companyname organisation organization business businessname employer",
}
_MEANS = {alias: name for name, aliases in _ALIASES.items() for alias in aliases.split()}
_FORMULA = re.compile(r'="([^"]*)"')
_MAX_LINES = 50
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Problem:
    """A cell that keeps its row out."""

    row: int
    column: str
    value: str
    error: str


@dataclass(frozen=True, slots=True)
class ContactRow:
    """A row that can go in; `given` is its phone as it was written."""

    row: int
    values: tuple[str, ...]
    given: str


@dataclass(slots=True)
class Batch:
    """Some rows in the file's order: `total` that are not blank, those that can go in, what is wrong with the rest."""

    total: int = 0
    rows: list[ContactRow] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    failed: int = 0


class _NeverClosed(Exception):
    """A quote opened and did not close for too many lines."""


class _Lines:
    """The lines of the file for csv.reader, which asks for more while a quote is open."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._again: deque[str] = deque()
        self.taken: list[str] = []
        self.at_end = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._text.readline()
        if not line:
            self.at_end = True
            raise StopIteration
        if "\0" in line:
            raise NotCsv("The file is not a text file. Save it as CSV (UTF-8).")
        if len(self.taken) >= _MAX_LINES:
            self._again.appendleft(line)
            raise _NeverClosed
        self.taken.append(line)
        return line

    def give_again(self, lines: list[str]) -> None:
        self._again.extendleft(reversed(lines))


class ContactsFile:
    """An open file. Rows count as in a spreadsheet: the header is 1, blank lines count, and a row whose quoted cell
    has line breaks is one row, however many lines of text it takes."""

    def __init__(self, file: BinaryIO) -> None:
        """Reads the header. Raises NotCsv when there is none with a phone column."""
        self._lines = _Lines(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
        self._row = 0
        self._columns = self._read_header()

    def _read_header(self) -> dict[str, int]:
        """Where each field's column is. The delimiter is the one with which the header has a phone."""
        for line in self._each_line():
            self._row += 1
            if line.strip(" \t\r\n,;"):
                break
        else:
            raise NotCsv("The file is empty. It needs a header row with a column `phone`.")
        for delimiter in ",;\t":
            try:
                columns = _find_columns(next(csv.reader([line], delimiter=delimiter)))
            except csv.Error:  # a cell longer than csv.field_size_limit()
                continue
            if "phone" in columns:
                self._reader = csv.reader(self._lines, delimiter=delimiter, strict=True)
                return columns
        raise NotCsv("The file needs a header row with a column `phone`.")

    def _each_line(self) -> Iterator[str]:
        try:
            for line in self._lines:
                self._lines.taken.clear()
                yield line
        except UnicodeDecodeError:
            raise NotCsv("The file is not a text file in UTF-8. Save it as CSV (UTF-8).") from None

    def next_batch(self, size: int) -> Batch | None:
        """The next `size` rows at most; None at the end. Raises NotCsv when the file turns out to be no text."""
        batch = Batch()
        try:
            while batch.total < size:
                if not self._take_row(batch):
                    return batch if batch.total else None
        except UnicodeDecodeError:
            raise NotCsv(f"The file is not in UTF-8 (after row {self._row}). Save it as CSV (UTF-8).") from None
        return batch

    def _take_row(self, batch: Batch) -> bool:
        self._lines.taken.clear()
        self._row += 1
        try:
            cells = next(self._reader)
        except StopIteration:
            return False
        except (csv.Error, _NeverClosed) as error:
            batch.total += 1
            batch.failed += 1
            batch.problems.append(self._bad_quotes(error))
            return True
        if any(cells) and any(cell.strip() for cell in cells):
            batch.total += 1
            self._check(cells, batch)
        return True

    def _bad_quotes(self, error: Exception) -> Problem:
        """A row that cannot be taken apart. After a quote that never closes the next line is a row of its own."""
        first, *rest = self._lines.taken
        if isinstance(error, _NeverClosed) or self._lines.at_end:
            self._lines.give_again(rest)
            self._lines.at_end = False
            return Problem(self._row, "", first.strip()[:_SHOWN], "A quote in this row is never closed.")
        return Problem(self._row, "", first.strip()[:_SHOWN], "The quotes in this row cannot be understood.")

    def _check(self, cells: list[str], batch: Batch) -> None:
        row, columns, known = self._row, self._columns, len(batch.problems)
        values: list[str] = []
        for name in FIELDS:
            index = columns.get(name)
            cell = cells[index] if index is not None and index < len(cells) else ""
            try:
                values.append(_take_phone(cell) if name == "phone" else _take_text(name, cell))
            except ValueError as error:
                batch.problems.append(Problem(row, name, cell[:_SHOWN], str(error)))
        if len(batch.problems) > known:
            batch.failed += 1
        else:
            batch.rows.append(ContactRow(row, tuple(values), cells[columns["phone"]]))


def _find_columns(header: list[str]) -> dict[str, int]:
    """Field → index. A field's own name wins over other spellings, the first of equals over the rest."""
    spelled = ["".join(filter(str.isalnum, cell.lower())) for cell in header]
    exact = {cell.strip().lower(): index for index, cell in reversed(list(enumerate(header)))}
    columns: dict[str, int] = {}
    for index, spelling in enumerate(spelled):
        if spelling in _MEANS:
            columns.setdefault(_MEANS[spelling], index)
    return columns | {name: exact[name] for name in FIELDS if name in exact}


def _take_phone(cell: str) -> str:
    """Also understands how people keep a spreadsheet from dropping the zero: ="0412…" and '0412…."""
    given = cell.strip()
    if not given:
        raise InvalidPhone("This field may not be blank.")
    formula = _FORMULA.fullmatch(given)
    return normalise_phone(formula[1] if formula else given.removeprefix("'"))


def _take_text(name: str, cell: str) -> str:
    if not cell:
        return cell
    value = clean_text(cell)
    if len(value) > _LENGTHS[name]:
        raise ValueError(f"Ensure this field has no more than {_LENGTHS[name]} characters.")
    return check_email(value) if name == "email" else value
