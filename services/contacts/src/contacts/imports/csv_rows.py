"""Read the rows of a CSV file in bounded memory: its encoding, its delimiter, and rows with broken quotes."""

import codecs
import csv
import io
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, chain, islice
from typing import BinaryIO

from contacts.errors import NotCsv
from contacts.imports.csv_header import Header, find_header

UTF_8 = "utf-8"
UTF_16 = "utf-16"
WINDOWS_1252 = "windows-1252"
_MAX_LINES = 50  # lines of one row
_READ_LINES = 200  # lines that are read and checked at once
# Characters that are checked at once. csv.reader does not give way to other threads before it has read all of them.
_READ_CHARACTERS = 100_000
_SCAN_BYTES = 256 * 1024
_DELIMITERS = ",;\t"
# A first line that names the delimiter for Excel, which shows the rows after it only.
_DELIMITER_LINE = re.compile(r'"?sep=([^"\r\n])"?[,;\t]*', re.IGNORECASE)
_NOT_UNDERSTOOD = "The quotes in this row cannot be understood."
_NOT_CLOSED = "A quote in this row is never closed."
_TOO_LONG = f"A cell of this row has more than {csv.field_size_limit():,} characters."


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of the file in order: the number of the first, and the cells of each.

    A chunk with an `error` is one row that cannot be read, with the text of its first line.
    """

    first_row: int
    rows: list[list[str]] = field(default_factory=list)
    error: str = ""
    text: str = ""


def is_blank(cells: list[str]) -> bool:
    """Return whether a row has only white space."""
    return not (any(cells) and any(cell.strip() for cell in cells))


def detect_encoding(file: BinaryIO) -> str:
    """Return the encoding of a text file.

    UTF-16 is recognised by its byte order mark, UTF-8 because all of the file is valid. Any other text is Windows-1252,
    as spreadsheets save it. Windows-1252 has no mark, and nearly all bytes are valid in it.
    """
    start = file.read(2)
    file.seek(0)
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return UTF_16
    decoder = codecs.getincrementaldecoder(UTF_8)()
    try:
        while block := file.read(_SCAN_BYTES):
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return WINDOWS_1252
    finally:
        file.seek(0)
    return UTF_8


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
        """Return the next lines, fewer than `count` at the end of the file."""
        if len(self._read) < count:
            self._read += islice(self._text, max(count, _READ_LINES))
        return self._read[:count]

    def skip(self, count: int) -> None:
        del self._read[:count]


class RowReader:
    """The rows of an open CSV file. `close` it in the end, so that the file stays open for others.

    Rows count as in a spreadsheet: the header is row 1, blank lines count, and a row with line breaks in a quoted cell
    is one row.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Read the header. Raises NotCsv when it has no phone column, or two columns with one meaning."""
        self.encoding = detect_encoding(file)
        codec = "utf-8-sig" if self.encoding == UTF_8 else self.encoding
        self._text = io.TextIOWrapper(file, encoding=codec, errors="replace", newline="")
        self._lines = _Lines(self._text)
        self._row = 0
        self._lines_by_row = 0  # the next lines, which are read row by row because of their quotes
        self._quoted_lines = 0  # lines after the next one that are known to be inside of a quote that it opens
        self._delimiter = ","
        try:
            self.header = self._read_header()
        except NotCsv:
            self.close()
            raise

    def close(self) -> None:
        """Release the file without closing it."""
        self._text.detach()

    def _read_header(self) -> Header:
        """Return the columns. The delimiter is the one with which the header has a phone column.

        A first line such as `sep=;` names the delimiter to try first. It does not count as a row.
        """
        line, delimiters = self._first_line(), _DELIMITERS
        if named := _DELIMITER_LINE.fullmatch(line.rstrip("\r\n")):
            delimiters = named[1] + _DELIMITERS
            self._row -= 1
            line = self._first_line()
        if "\0" in line:
            raise NotCsv("The file is not a text file. Save it as CSV (UTF-8).")
        for delimiter in delimiters:
            try:
                header = find_header(next(csv.reader([line], delimiter=delimiter)))
            except csv.Error:  # a cell is longer than csv.field_size_limit()
                continue
            if header is not None:
                self._delimiter = delimiter
                return header
        raise NotCsv("The file needs a header row with a column `phone`.")

    def _first_line(self) -> str:
        """Return the first line that is not blank."""
        while lines := self._lines.ahead(1):
            self._lines.skip(1)
            self._row += 1
            if lines[0].strip(" \t\r\n,;"):
                return lines[0]
        raise NotCsv("The file is empty. It needs a header row with a column `phone`.")

    def next_chunk(self, size: int) -> Chunk | None:
        """Return the next rows, `size` at most, or None at the end."""
        if self._lines_by_row <= 0:
            lines = self._lines.ahead(min(size, _READ_LINES))
            if sum(map(len, lines)) > _READ_CHARACTERS:
                lines = lines[: max(1, bisect_right(list(accumulate(map(len, lines))), _READ_CHARACTERS))]
            if not lines:
                return None
            rows = self._split(lines)
            if rows is not None:
                self._lines.skip(len(lines))
                self._quoted_lines = 0
                self._row += len(rows)
                return Chunk(first_row=self._row - len(rows) + 1, rows=rows)
            self._lines_by_row = len(lines)
        window = self._lines.ahead(_MAX_LINES)
        return self._read_row(window) if window else None

    def _split(self, lines: list[str]) -> list[list[str]] | None:
        """Return the cells of each line, or None if a row has several lines or its quotes are wrong."""
        try:
            rows = list(csv.reader(lines, delimiter=self._delimiter, strict=True))
        except csv.Error:
            return None
        return rows if len(rows) == len(lines) else None

    def _read_row(self, window: list[str]) -> Chunk:
        """Return the row that begins with the first line.

        After a quote that is never closed, the next line of the file is read as a row of its own.
        """
        self._row += 1
        cells, error, used = self._parse_row(window)
        self._quoted_lines = len(window) - 2 if error == _NOT_CLOSED else max(self._quoted_lines - used, 0)
        self._lines.skip(used)
        self._lines_by_row -= used
        if cells is not None:
            return Chunk(first_row=self._row, rows=[cells])
        return Chunk(first_row=self._row, error=error, text=window[0])

    def _parse_row(self, window: list[str]) -> tuple[list[str] | None, str, int]:
        """Return the cells of the row that begins with the first line, or an error, and how many lines it has.

        Lines that are known to be inside of a quote are left out at first, so that a file of open quotes is not read
        50 times.
        """
        if self._quoted_lines > 0:
            cells, error, used = self._parse_lines([window[0], *window[1 + self._quoted_lines :]])
            if used <= 1:
                return cells, error, used
        return self._parse_lines(window)

    def _parse_lines(self, lines: list[str]) -> tuple[list[str] | None, str, int]:
        reader = csv.reader(chain(lines, _end_of_lines()), delimiter=self._delimiter, strict=True)
        try:
            return next(reader), "", reader.line_num
        except csv.Error as error:
            return None, _TOO_LONG if "field limit" in str(error) else _NOT_UNDERSTOOD, reader.line_num
        except _UnclosedQuote:
            return None, _NOT_CLOSED, 1
