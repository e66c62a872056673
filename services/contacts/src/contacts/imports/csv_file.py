"""Read a CSV file of contacts as spreadsheets write it, in bounded memory and time."""

import csv
import io
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, compress, islice
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
_READ_LINES = 200  # lines that are read and checked at once
_MAX_SHOWN = 200  # characters of a cell in an error
_MAX_READ_S = 20.0
MAX_PROBLEMS = 1000
# The digits of every phone that is a mobile number, unless a spreadsheet wrote it with an exponent: prefixes for
# Australia, for calls from there and of carriers, the number, and decimals.
_MAYBE_MOBILE = re.compile(r"(?:0|61|183[12]|001[0-9]|14[0-9]{2}0011)*4[0-9]{8}0{0,2}")
_NO_DIGITS = re.compile(r"[^0-9]+")


@dataclass(frozen=True, slots=True)
class Problem:
    """A cell because of which its row is not imported. `column` is "" when the whole row cannot be read."""

    row: int
    column: str
    value: str
    error: str


def _no_values() -> dict[str, list[str]]:
    return {name: [] for name in IMPORT_FIELDS}


@dataclass(slots=True)
class Batch:
    """Some rows in the order of the file.

    `total` counts the rows that are not blank, and `failed` those of them that are not valid. The valid rows are lists
    of the same length: their numbers, the values of each of IMPORT_FIELDS, and the phones as the file has them.
    """

    total: int = 0
    failed: int = 0
    numbers: list[int] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=_no_values)
    given_phones: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, numbers: Iterable[int], columns: Mapping[str, Iterable[str]], given_phones: Iterable[str]) -> None:
        """Add valid rows."""
        self.numbers += numbers
        for name, values in columns.items():
            self.columns[name] += values
        self.given_phones += given_phones

    def remove_repeated(self) -> list[tuple[int, str]]:
        """Remove the rows whose phone an earlier row has. Return their numbers and phones."""
        phones = self.columns["phone"]
        if len(set(phones)) == len(phones):
            return []
        first: dict[str, int] = {}
        is_first = [first.setdefault(phone, index) == index for index, phone in enumerate(phones)]
        given = zip(self.numbers, self.given_phones, is_first, strict=True)
        removed = [(number, phone) for number, phone, kept in given if not kept]
        self.numbers = list(compress(self.numbers, is_first))
        self.columns = {name: list(compress(values, is_first)) for name, values in self.columns.items()}
        self.given_phones = list(compress(self.given_phones, is_first))
        return removed


class _UnclosedQuote(Exception):
    """A quote is still open after `_MAX_LINES` lines or at the end of the file."""


def _end_of_lines() -> Iterator[str]:
    """Raise _UnclosedQuote when csv.reader asks for a further line of a row."""
    raise _UnclosedQuote
    yield ""


class _Lines:
    """The lines of the file. `ahead` are the next ones, which `skip` removes."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._read: list[str] = []

    def ahead(self, count: int) -> list[str]:
        """Return the next lines, fewer than `count` at the end of the file. Raises NotCsv for binary files."""
        if len(self._read) < count:
            lines = list(islice(self._text, max(count, _READ_LINES)))
            if "\0" in "".join(lines):
                raise NotCsv("The file is not a text file. Save it as CSV (UTF-8).")
            self._read += lines
        return self._read[:count]

    def skip(self, count: int) -> None:
        del self._read[:count]


class ContactsFile:
    """An open CSV file.

    Rows count as in a spreadsheet: the header is row 1, blank lines count, and a row with line breaks in a quoted cell
    is one row.
    """

    def __init__(self, file: BinaryIO, max_read_s: float = _MAX_READ_S) -> None:
        """Read the header. Raises NotCsv when there is no header with a phone column.

        `max_read_s` is the CPU time that reading and checking the whole file may take.
        """
        self._lines = _Lines(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
        self._time_left_s = max_read_s
        self._row = 0
        self._quoted_lines = 0  # lines after the next one that are known to be inside of a quote that it opens
        self._described = 0  # problems until now
        self._delimiter = ","
        self._columns = self._read_header()

    def _read_header(self) -> dict[str, int]:
        """Return the column index of each field. The delimiter is the one with which the header has a phone column."""
        line = self._first_line()
        for delimiter in ",;\t":
            try:
                columns = _find_columns(next(csv.reader([line], delimiter=delimiter)))
            except csv.Error:  # a cell is longer than csv.field_size_limit()
                continue
            if "phone" in columns:
                self._delimiter = delimiter
                return columns
        raise NotCsv("The file needs a header row with a column `phone`.")

    def _first_line(self) -> str:
        """Return the first line that is not blank."""
        try:
            while lines := self._lines.ahead(1):
                self._lines.skip(1)
                self._row += 1
                if lines[0].strip(" \t\r\n,;"):
                    return lines[0]
        except UnicodeDecodeError:
            raise NotCsv("The file is not a text file in UTF-8. Save it as CSV (UTF-8).") from None
        raise NotCsv("The file is empty. It needs a header row with a column `phone`.")

    def next_batch(self, size: int) -> Batch | None:
        """Return the next rows, `size` at most, or None at the end.

        Raises NotCsv when the file is not text, and when reading it takes too long.
        """
        batch = Batch()
        try:
            while batch.total < size and (lines := self._lines.ahead(min(size - batch.total, _READ_LINES))):
                began = time.thread_time()
                self._read(lines, batch)
                self._time_left_s -= time.thread_time() - began
                if self._time_left_s < 0:
                    raise NotCsv("Checking this file takes too long. Split it into smaller files.")
        except UnicodeDecodeError:
            raise NotCsv(f"The file is not in UTF-8 (after row {self._row}). Save it as CSV (UTF-8).") from None
        return batch if batch.total else None

    def _read(self, lines: list[str], batch: Batch) -> None:
        """Add the rows of these lines to the batch: at once if all of them are plain, else row by row."""
        rows = self._split(lines)
        if rows is None:
            wanted = len(lines)
            while wanted > 0 and (window := self._lines.ahead(_MAX_LINES)):
                wanted -= self._read_row(window, batch)
            return
        self._lines.skip(len(lines))
        self._quoted_lines = 0
        if not self._add_plain(rows, batch):
            for cells in rows:
                self._row += 1
                self._add(cells, batch)

    def _split(self, lines: list[str]) -> list[list[str]] | None:
        """Return the cells of each line, or None if a row has several lines or its quotes are wrong."""
        try:
            rows = list(csv.reader(lines, delimiter=self._delimiter, strict=True))
        except csv.Error:
            return None
        return rows if len(rows) == len(lines) else None

    def _add_plain(self, rows: list[list[str]], batch: Batch) -> bool:
        """Add the rows if all of them are complete and valid. Return whether they are."""
        if min(map(len, rows)) <= max(self._columns.values()):
            return False
        given = {name: [cells[index] for cells in rows] for name, index in self._columns.items()}
        nothing = [""] * len(rows)
        try:
            phones = [_parse_phone(cell) for cell in given["phone"]]
            texts = {name: _parse_texts(name, given.get(name, nothing)) for name in MAX_LENGTHS}
        except ValueError:
            return False
        numbers = range(self._row + 1, self._row + 1 + len(rows))
        batch.add(numbers, {"phone": phones, **texts}, given["phone"])
        batch.total += len(rows)
        self._row += len(rows)
        return True

    def _read_row(self, window: list[str], batch: Batch) -> int:
        """Add the row that begins with the first line. Return how many lines it has.

        After a quote that is never closed, the next line of the file is read as a row of its own.
        """
        self._row += 1
        cells, used = self._parse_row(window)
        if cells is not None:
            self._add(cells, batch)
        else:
            batch.total += 1
            error = "The quotes in this row cannot be understood." if used else "A quote in this row is never closed."
            self._fail(batch, "", window[0].strip(), error)
            batch.failed += 1
        self._quoted_lines = max(self._quoted_lines - used, 0) if used else len(window) - 2
        self._lines.skip(used or 1)
        return used or 1

    def _parse_row(self, window: list[str]) -> tuple[list[str] | None, int]:
        """Return the cells of the row that begins with the first line, and how many lines it has.

        The cells are None if the quotes are wrong, and the number is 0 if a quote is never closed. Lines that are
        known to be inside of a quote are left out at first, so that a file of open quotes is not read 50 times.
        """
        if self._quoted_lines > 0:
            cells, used = self._parse_lines([window[0], *window[1 + self._quoted_lines :]])
            if used <= 1:
                return cells, used
        return self._parse_lines(window)

    def _parse_lines(self, lines: list[str]) -> tuple[list[str] | None, int]:
        reader = csv.reader(chain(lines, _end_of_lines()), delimiter=self._delimiter, strict=True)
        try:
            return next(reader), reader.line_num
        except csv.Error:
            return None, reader.line_num
        except _UnclosedQuote:
            return None, 0

    def _add(self, cells: list[str], batch: Batch) -> None:
        """Add a row to the batch's rows, or what is wrong with it to the batch's problems. Leave out a blank row."""
        if not (any(cells) and any(cell.strip() for cell in cells)):
            return
        batch.total += 1
        values: dict[str, Iterable[str]] = {}
        for name in IMPORT_FIELDS:
            index = self._columns.get(name)
            cell = cells[index] if index is not None and index < len(cells) else ""
            try:
                values[name] = [self._parse_cell(name, cell)]
            except ValueError as error:
                self._fail(batch, name, cell, error)
                if self._described >= MAX_PROBLEMS:
                    break
        if len(values) < len(IMPORT_FIELDS):
            batch.failed += 1
        else:
            batch.add([self._row], values, [cells[self._columns["phone"]]])

    def _parse_cell(self, name: str, cell: str) -> str:
        if name != "phone":
            return _parse_text(name, cell)
        if self._described >= MAX_PROBLEMS and not _may_be_mobile(cell):
            raise InvalidPhone  # without the costly search for the right message, which is not listed
        return _parse_phone(cell)

    def _fail(self, batch: Batch, column: str, cell: str, error: object) -> None:
        """Describe what is wrong with a cell of the current row, unless the file has too many problems already."""
        if self._described < MAX_PROBLEMS:
            self._described += 1
            batch.problems.append(Problem(self._row, column, cell[:_MAX_SHOWN], str(error)))


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


def _may_be_mobile(cell: str) -> bool:
    """Return False for most cells that are no mobile number, which `_parse_phone` would need 30 times as long for."""
    return "e" in cell or "E" in cell or _MAYBE_MOBILE.fullmatch(_NO_DIGITS.sub("", cell)) is not None


def _parse_text(name: str, cell: str) -> str:
    if not cell:
        return cell
    value = clean_text(cell)
    if len(value) > MAX_LENGTHS[name]:
        raise ValueError(f"Ensure this field has no more than {MAX_LENGTHS[name]} characters.")
    return check_email(value) if name == "email" else value


def _parse_texts(name: str, cells: list[str]) -> list[str]:
    """Return the values of a whole column. It is fast if all of them are printable and short."""
    if "".join(cells).isprintable() and max(map(len, cells)) <= MAX_LENGTHS[name]:
        values = [cell.strip() for cell in cells]
        return [check_email(value) for value in values] if name == "email" else values
    return [_parse_text(name, cell) for cell in cells]
