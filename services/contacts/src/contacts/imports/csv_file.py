"""Check the rows of a CSV file of contacts as spreadsheets write it, in bounded memory and time."""

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import compress
from typing import BinaryIO

from common.fields import clean_text
from common.phones import InvalidPhone, normalise_phone
from contacts.contacts.rules import IMPORT_FIELDS, MAX_LENGTHS, check_email
from contacts.errors import NotCsv
from contacts.imports.csv_header import FULL_NAME, split_name
from contacts.imports.csv_rows import RowReader, is_blank

_FORMULA = re.compile(r'="([^"]*)"')
_MAX_SHOWN = 200  # characters of a cell in an error
_MAX_CELL = 10_000  # characters of a cell that is cleaned before its length is checked
_MAX_READ_S = 60.0
_MAX_BATCH_S = 0.25  # other work of the process waits for a batch
_MAX_COUNT_S = 10.0
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


def refuse_cell(row: int, column: str, cell: str, error: object) -> Problem:
    """Return the problem of a cell, which is shown in part if it is long."""
    return Problem(row=row, column=column, value=cell[:_MAX_SHOWN], error=str(error))


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


class ContactsFile:
    """An open CSV file of contacts. `close` it in the end, so that the file stays open for others."""

    def __init__(self, file: BinaryIO, max_read_s: float = _MAX_READ_S) -> None:
        """Read the header. Raises NotCsv when it has no phone column, or two columns with one meaning.

        `max_read_s` is the CPU time that reading and checking the whole file may take.
        """
        self._reader = RowReader(file)
        self._columns = self._reader.header.columns
        self._time_left_s = max_read_s
        self._described = 0  # problems until now
        self.encoding = self._reader.encoding
        self.ignored_columns = self._reader.header.ignored

    def close(self) -> None:
        """Release the file without closing it."""
        self._reader.close()

    def next_batch(self, size: int) -> Batch | None:
        """Return the next rows, `size` at most and fewer if they are slow to check, or None at the end.

        Raises NotCsv when reading the file takes too long.
        """
        batch = Batch()
        began = time.thread_time()
        spent = 0.0
        while batch.total < size and (batch.total == 0 or spent < _MAX_BATCH_S):
            chunk = self._reader.next_chunk(size - batch.total)
            if chunk is None:
                break
            if chunk.error:
                batch.total += 1
                batch.failed += 1
                self._describe(batch, refuse_cell(chunk.first_row, "", chunk.text.strip(), chunk.error))
            elif not self._add_plain(chunk.first_row, chunk.rows, batch):
                for row, cells in enumerate(chunk.rows, start=chunk.first_row):
                    self._add(row, cells, batch)
            spent = time.thread_time() - began
            if spent > self._time_left_s:
                raise NotCsv("Checking this file takes too long. Split it into smaller files.")
        self._time_left_s -= spent
        return batch if batch.total else None

    def _add_plain(self, first_row: int, rows: list[list[str]], batch: Batch) -> bool:
        """Add the rows if all of them are complete and valid. Return whether they are."""
        if min(map(len, rows)) <= max(self._columns.values()):
            return False
        given = {name: [cells[index] for cells in rows] for name, index in self._columns.items()}
        if FULL_NAME in given:
            names = [split_name(cell) for cell in given[FULL_NAME]]
            given |= {"first_name": [first for first, _ in names], "last_name": [last for _, last in names]}
        nothing = [""] * len(rows)
        try:
            phones = [_parse_phone(cell) for cell in given["phone"]]
            texts = {name: _parse_texts(name, given.get(name, nothing)) for name in MAX_LENGTHS}
        except ValueError:
            return False
        batch.add(range(first_row, first_row + len(rows)), {"phone": phones, **texts}, given["phone"])
        batch.total += len(rows)
        return True

    def _add(self, row: int, cells: list[str], batch: Batch) -> None:
        """Add a row to the batch's rows, or what is wrong with it to the batch's problems. Leave out a blank row."""
        if is_blank(cells):
            return
        batch.total += 1
        values: dict[str, Iterable[str]] = {}
        for name in IMPORT_FIELDS:
            cell = self._find_cell(name, cells)
            try:
                values[name] = [self._parse_cell(name, cell)]
            except ValueError as error:
                self._describe(batch, refuse_cell(row, name, cell, error))
                if self._described >= MAX_PROBLEMS:
                    break
        if len(values) < len(IMPORT_FIELDS):
            batch.failed += 1
        else:
            batch.add([row], values, [cells[self._columns["phone"]]])

    def _find_cell(self, name: str, cells: list[str]) -> str:
        """Return the cell of a field, or "" if the row or the file has none. A name may be a part of the full name."""
        index = self._columns.get(name)
        if index is not None:
            return cells[index] if index < len(cells) else ""
        if name in ("first_name", "last_name") and FULL_NAME in self._columns:
            first, last = split_name(self._find_cell(FULL_NAME, cells))
            return first if name == "first_name" else last
        return ""

    def _parse_cell(self, name: str, cell: str) -> str:
        if name != "phone":
            return _parse_text(name, cell)
        if self._described >= MAX_PROBLEMS and not _may_be_mobile(cell):
            raise InvalidPhone  # without the costly search for the right message, which is not listed
        return _parse_phone(cell)

    def _describe(self, batch: Batch, problem: Problem) -> None:
        """Add a problem to the batch, unless the file has too many problems already."""
        if self._described < MAX_PROBLEMS:
            self._described += 1
            batch.problems.append(problem)


def count_rows(file: BinaryIO, max_read_s: float = _MAX_COUNT_S) -> int | None:
    """Return how many rows of a file are not blank, or None when counting takes too long. Raises NotCsv."""
    reader, total = RowReader(file), 0
    end = time.thread_time() + max_read_s
    while (chunk := reader.next_chunk(200)) is not None:
        total += 1 if chunk.error else sum(1 for cells in chunk.rows if not is_blank(cells))
        if time.thread_time() > end:
            break
    reader.close()
    return total if chunk is None else None


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
    if "\0" in cell:
        raise ValueError("Null characters are not allowed.")
    value = cell.strip()
    if len(value) <= _MAX_CELL:
        value = clean_text(value)
    if len(value) > MAX_LENGTHS[name]:
        raise ValueError(f"Ensure this field has no more than {MAX_LENGTHS[name]} characters.")
    return check_email(value) if name == "email" else value


def _parse_texts(name: str, cells: list[str]) -> list[str]:
    """Return the values of a whole column. It is fast if all of them are printable and short."""
    if "".join(cells).isprintable() and max(map(len, cells)) <= MAX_LENGTHS[name]:
        values = [cell.strip() for cell in cells]
        return [check_email(value) for value in values] if name == "email" else values
    return [_parse_text(name, cell) for cell in cells]
