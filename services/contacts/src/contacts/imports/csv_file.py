"""Read a CSV file of contacts as spreadsheets write it: row by row, in bounded memory."""

import csv
import io
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from common.fields import clean_text
from common.phones import InvalidPhone, normalise_phone
from contacts.contacts.rules import IMPORT_FIELDS, MAX_LENGTHS, check_email
from contacts.errors import NotCsv

_HEADERS = {
    "phone": "phone phonenumber phoneno mobile mobilenumber mobileno mobilephone mobilephonenumber cell cellphone"
    " cellnumber telephone tel msisdn contactnumber number",
    "first_name": "firstname first givenname given givennames forename fname christianname",
    "last_name": "lastname last surname familyname family lname",
    "email": "email emailaddress mail emailid",
    "company": "company companyname organisation organization business businessname employer",
}
_FIELD_OF_HEADER = {header: name for name, headers in _HEADERS.items() for header in headers.split()}
_FORMULA = re.compile(r'="([^"]*)"')
_MAX_LINES = 50  # lines of one row
_MAX_SHOWN = 200  # characters of a cell in an error


@dataclass(frozen=True, slots=True)
class Problem:
    """A cell because of which its row is not imported. `column` is "" when the whole row cannot be read."""

    row: int
    column: str
    value: str
    error: str


@dataclass(frozen=True, slots=True)
class FileRow:
    """A valid row: its number, the values of IMPORT_FIELDS, and its phone as the file has it."""

    number: int
    values: tuple[str, ...]
    given_phone: str

    @property
    def phone(self) -> str:
        return self.values[0]


@dataclass(slots=True)
class Batch:
    """Some rows in the order of the file.

    `total` counts the rows that are not blank, and `failed` those of them that are not valid.
    """

    total: int = 0
    failed: int = 0
    rows: list[FileRow] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class _UnclosedQuote(Exception):
    """A quote is still open after `_MAX_LINES` lines."""


class _Lines:
    """The lines of the file for csv.reader. `read` has the lines of the current row."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._returned: deque[str] = deque()
        self.read: list[str] = []
        self.at_end = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else self._text.readline()
        if not line:
            self.at_end = True
            raise StopIteration
        if "\0" in line:
            raise NotCsv("The file is not a text file. Save it as CSV (UTF-8).")
        if len(self.read) >= _MAX_LINES:
            self._returned.appendleft(line)
            raise _UnclosedQuote
        self.read.append(line)
        return line

    def return_lines(self, lines: list[str]) -> None:
        """Put lines back, so that they are read again."""
        self._returned.extendleft(reversed(lines))


class ContactsFile:
    """An open CSV file.

    Rows count as in a spreadsheet: the header is row 1, blank lines count, and a row with line breaks in a quoted cell
    is one row.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Read the header. Raises NotCsv when there is no header with a phone column."""
        self._lines = _Lines(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
        self._row = 0
        self._columns = self._read_header()

    def _read_header(self) -> dict[str, int]:
        """Return the column index of each field. The delimiter is the one with which the header has a phone column."""
        for line in self._each_line():
            self._row += 1
            if line.strip(" \t\r\n,;"):
                break
        else:
            raise NotCsv("The file is empty. It needs a header row with a column `phone`.")
        for delimiter in ",;\t":
            try:
                columns = _find_columns(next(csv.reader([line], delimiter=delimiter)))
            except csv.Error:  # a cell is longer than csv.field_size_limit()
                continue
            if "phone" in columns:
                self._reader = csv.reader(self._lines, delimiter=delimiter, strict=True)
                return columns
        raise NotCsv("The file needs a header row with a column `phone`.")

    def _each_line(self) -> Iterator[str]:
        try:
            for line in self._lines:
                self._lines.read.clear()
                yield line
        except UnicodeDecodeError:
            raise NotCsv("The file is not a text file in UTF-8. Save it as CSV (UTF-8).") from None

    def next_batch(self, size: int) -> Batch | None:
        """Return the next rows, `size` at most, or None at the end. Raises NotCsv when the file is not text."""
        batch = Batch()
        try:
            while batch.total < size:
                if not self._read_row(batch):
                    return batch if batch.total else None
        except UnicodeDecodeError:
            raise NotCsv(f"The file is not in UTF-8 (after row {self._row}). Save it as CSV (UTF-8).") from None
        return batch

    def _read_row(self, batch: Batch) -> bool:
        """Add the next row to the batch. Return False at the end of the file."""
        self._lines.read.clear()
        self._row += 1
        try:
            cells = next(self._reader)
        except StopIteration:
            return False
        except (csv.Error, _UnclosedQuote) as error:
            batch.total += 1
            batch.failed += 1
            batch.problems.append(self._quote_problem(error))
            return True
        if any(cells) and any(cell.strip() for cell in cells):
            batch.total += 1
            self._check(cells, batch)
        return True

    def _quote_problem(self, error: Exception) -> Problem:
        """Return the problem of a row with wrong quotes.

        After a quote that is never closed, the next line of the file is read as a row of its own.
        """
        first, *rest = self._lines.read
        message = "The quotes in this row cannot be understood."
        if isinstance(error, _UnclosedQuote) or self._lines.at_end:
            self._lines.return_lines(rest)
            self._lines.at_end = False
            message = "A quote in this row is never closed."
        return Problem(row=self._row, column="", value=first.strip()[:_MAX_SHOWN], error=message)

    def _check(self, cells: list[str], batch: Batch) -> None:
        """Add a row to the batch's rows, or what is wrong with it to the batch's problems."""
        columns, before = self._columns, len(batch.problems)
        values: list[str] = []
        for name in IMPORT_FIELDS:
            index = columns.get(name)
            cell = cells[index] if index is not None and index < len(cells) else ""
            try:
                values.append(_parse_phone(cell) if name == "phone" else _parse_text(name, cell))
            except ValueError as error:
                batch.problems.append(Problem(self._row, name, cell[:_MAX_SHOWN], str(error)))
        if len(batch.problems) > before:
            batch.failed += 1
        else:
            batch.rows.append(FileRow(self._row, tuple(values), cells[columns["phone"]]))


def _find_columns(header: list[str]) -> dict[str, int]:
    """Return the column index of each field. A field's own name wins over other headers, then the first column wins."""
    simplified = ["".join(filter(str.isalnum, cell.lower())) for cell in header]
    exact = {cell.strip().lower(): index for index, cell in reversed(list(enumerate(header)))}
    columns: dict[str, int] = {}
    for index, name in enumerate(simplified):
        if name in _FIELD_OF_HEADER:
            columns.setdefault(_FIELD_OF_HEADER[name], index)
    return columns | {name: exact[name] for name in IMPORT_FIELDS if name in exact}


def _parse_phone(cell: str) -> str:
    """Return the phone of a cell, also when it is written as ="0412…" or '0412… so that its zero is not dropped."""
    given = cell.strip()
    if not given:
        raise InvalidPhone("This field may not be blank.")
    formula = _FORMULA.fullmatch(given)
    return normalise_phone(formula[1] if formula else given.removeprefix("'"))


def _parse_text(name: str, cell: str) -> str:
    if not cell:
        return cell
    value = clean_text(cell)
    if len(value) > MAX_LENGTHS[name]:
        raise ValueError(f"Ensure this field has no more than {MAX_LENGTHS[name]} characters.")
    return check_email(value) if name == "email" else value
