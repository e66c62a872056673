"""The reader of CSV files: batches, rows with line breaks, and files that would be costly to read."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contacts.errors import NotCsv
from contacts.imports.csv_file import MAX_PROBLEMS, ContactsFile, Problem, count_rows
from contacts.imports.csv_rows import detect_encoding

PIECES = [*"+0() -./\t'", "61", "0011", "1831", "412345678", "4", "12345678", "4.12345678E+08", ".0"]


def read(content: str, size: int = 1000) -> tuple[list[tuple[int, str, str]], list[Problem], int, int]:
    """Return the valid rows (number, phone, first name), the problems, and the totals of rows and failed rows."""
    file = ContactsFile(io.BytesIO(content.encode()))
    rows: list[tuple[int, str, str]] = []
    problems: list[Problem] = []
    total = failed = 0
    while (batch := file.next_batch(size)) is not None:
        assert 0 < batch.total <= size
        rows += zip(batch.numbers, batch.columns["phone"], batch.columns["first_name"], strict=True)
        problems += batch.problems
        total, failed = total + batch.total, failed + batch.failed
    return rows, problems, total, failed


@pytest.mark.parametrize("size", [1, 3, 250, 5000])
def test_rows_are_the_same_whatever_the_size_of_a_batch(size: int) -> None:
    lines = [f'"Ana {n}",04{n:08d}' for n in range(700)]
    lines[300] = '"Ana\n300",0400000300'
    lines[301] = ""
    lines[450] = "Ana,x"
    rows, problems, total, failed = read("first_name,phone\n" + "\n".join(lines), size)
    assert (len(rows), total, failed) == (698, 699, 1)
    assert rows[0] == (2, "+61400000000", "Ana 0")
    assert rows[300] == (302, "+61400000300", "Ana\n300")
    assert rows[-1] == (701, "+61400000699", "Ana 699")
    assert [(problem.row, problem.value) for problem in problems] == [(452, "x")]


def test_cells_are_cleaned_the_same_in_plain_and_in_other_rows() -> None:
    plain = [(" 0412 345 678 ", " Ana "), ("(04) 1234-5678", "Zoë"), ("+61 (0)412 345 678", "O'Neil")]
    for others in ([], [("0491570006", "a\tb")], [("'0491570006", "x" * 100)], [("0491570006", "")]):
        rows, *_ = read("phone,first_name\n" + "".join(f"{phone},{name}\n" for phone, name in [*plain, *others]))
        assert [row[1] for row in rows] == ["+61412345678"] * 3 + ["+61491570006"] * len(others)
        assert [row[2] for row in rows][:3] == ["Ana", "Zoë", "O'Neil"]
        assert [row[2] for row in rows][3:] == [name.replace("\t", " ") for _, name in others]


def test_rows_that_repeat_a_phone_of_the_batch_are_removed() -> None:
    file = ContactsFile(io.BytesIO(b"phone\n0412345678\n0491570006\n+61412345678\n0412345678\n"))
    batch = file.next_batch(100)
    assert batch is not None
    assert batch.remove_repeated() == [(4, "+61412345678"), (5, "0412345678")]
    assert (batch.numbers, batch.columns["phone"]) == ([2, 3], ["+61412345678", "+61491570006"])
    assert batch.remove_repeated() == []


@pytest.mark.parametrize("line", ['"0412345678,x\ny,', 'a","', "4123456789012", "0412345678,x,x@y", "x"])
def test_rows_after_many_bad_ones_are_still_read(line: str) -> None:
    rows, problems, total, failed = read(
        "phone,first_name,email\n" + f"{line}\n" * 3000 + '"\n' + "(04) 9157 0006,Ana\n"
    )
    assert [row[1:] for row in rows] == [("+61491570006", "Ana")]
    assert total == failed + 1
    rows_with_problems = [problem.row for problem in problems]
    assert (len(problems), rows_with_problems) == (MAX_PROBLEMS, sorted(rows_with_problems))


def test_open_quote_is_reported_for_each_line() -> None:
    rows, problems, *_ = read("first_name,phone\n" + 'a","\n' * 120 + "Ana,0491570006")
    assert rows == [(122, "+61491570006", "Ana")]
    assert [(problem.row, problem.value) for problem in problems] == [(row, 'a","') for row in range(2, 122)]
    assert {problem.error for problem in problems} == {"A quote in this row is never closed."}


@pytest.mark.parametrize(("lines", "numbers"), [(50, [2, 3]), (51, [52, 53])])
def test_row_may_have_fifty_lines(lines: int, numbers: list[int]) -> None:
    text = "\n".join("x" * lines)
    rows, *_ = read(f'company,phone\n"{text}",0412345678\nAcme,0491570006\n')
    assert [row[0] for row in rows] == numbers


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join))
def test_phone_is_read_the_same_before_and_after_many_problems(phone: str) -> None:
    rows, *_ = read(f'phone\n"{phone}"\n' + "x\n" * MAX_PROBLEMS + f'"{phone}"\n')
    assert len(rows) in (0, 2)


def test_file_that_takes_too_long_to_check_is_refused() -> None:
    file = ContactsFile(io.BytesIO(b"phone\n0412345678\n"), max_read_s=-1.0)
    with pytest.raises(NotCsv, match="too long"):
        file.next_batch(1000)


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("phone\nZo\u00eb".encode(), "utf-8"),
        ("\ufeffphone".encode(), "utf-8"),
        (b"", "utf-8"),
        ("\ufeffphone".encode("utf-16-le"), "utf-16"),
        ("\ufeffphone".encode("utf-16-be"), "utf-16"),
        ("phone\nZo\u00eb \u20ac".encode("cp1252"), "windows-1252"),
        (b"x" * 600_000 + b"\xeb", "windows-1252"),
        (("x" * 262_143 + "\u00eb").encode(), "utf-8"),  # a character of two blocks
        ("phone\nZo\u00eb".encode()[:-1], "windows-1252"),
    ],
)
def test_encoding_is_found_by_the_mark_or_by_all_of_the_bytes(content: bytes, encoding: str) -> None:
    file = io.BytesIO(content)
    assert detect_encoding(file) == encoding
    assert file.tell() == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_text_is_the_same_in_every_encoding(encoding: str) -> None:
    file = ContactsFile(io.BytesIO("Mobile;Name\r\n0412345678;Zo\u00eb O\u2019Neil\r\n".encode(encoding)))
    batch = file.next_batch(10)
    assert batch is not None
    assert (batch.columns["first_name"], batch.columns["last_name"]) == (["Zo\u00eb"], ["O\u2019Neil"])


@pytest.mark.parametrize(
    ("line", "header"),
    [
        ("sep=;", "Mobile;Name"),
        ("SEP=,", "Mobile;Name"),
        ('"sep=;"', "Mobile;Name"),
        ("sep=;;;", "Mobile;Name"),
        ("sep=;", "Mobile;Name;Company,Phone"),
        ("sep=|", "Mobile|Name"),
        ("sep=\t", "Mobile\tName"),
    ],
)
def test_a_first_line_that_names_the_delimiter_for_excel_is_no_row(line: str, header: str) -> None:
    delimiter = header.removeprefix("Mobile")[0]
    rows = f"0412345678{delimiter}Ana Bell\r\nbad{delimiter}Ben\r\n"
    file = ContactsFile(io.BytesIO(f"{line}\r\n{header}\r\n{rows}".encode()))
    batch = file.next_batch(10)
    assert batch is not None
    assert batch.columns["last_name"] == ["Bell"]
    assert batch.problems[0].row == 3


@pytest.mark.parametrize("content", [b"sep=;", b"sep=;\n", b"sep=;\nsep=;\nphone\n", b"sep=;\nname\n"])
def test_a_file_with_only_such_a_line_has_no_header(content: bytes) -> None:
    with pytest.raises(NotCsv):
        ContactsFile(io.BytesIO(content))


@pytest.mark.parametrize("content", [b"phone\n\xff\xfe04\x81\n0412345678\n", b"\xff\xfep\0h\0o\0n\0e\0\n\0\0\xd8\n\0x"])
def test_bytes_that_are_not_valid_are_errors_of_their_rows(content: bytes) -> None:
    file = ContactsFile(io.BytesIO(content))
    batch = file.next_batch(10)
    assert batch is not None
    assert batch.problems[0].row == 2


@pytest.mark.parametrize(
    ("line", "column", "error"),
    [
        ("0412345678,A\0na,", "first_name", "Null characters are not allowed."),
        ("04123\x0045678,Ana,", "phone", "Enter an Australian mobile number"),
        ("0412345678," + "x" * 101 + ",", "first_name", "no more than 100 characters"),
        ("0412345678," + "x\x01" * 20_000 + ",", "first_name", "no more than 100 characters"),
        ("0412345678,Ana,a@b." + "c" * 60_000, "email", "no more than 254 characters"),
        ("0" * 100_000 + ",Ana,", "phone", "Enter an Australian mobile number"),
        ("0412345678," + "x" * 200_000 + ",", "", "more than 131,072 characters"),
        ('0412345678,"' + "x\n" * 40 + "y" * 200_000 + '",', "", "more than 131,072 characters"),
    ],
)
def test_bad_cell_is_an_error_of_its_row_alone(line: str, column: str, error: str) -> None:
    rows, problems, total, failed = read("phone,first_name,email\n0491570006,Ana,\n" + line + "\n0491570110,Bo,\n")
    assert [row[1:] for row in rows] == [("+61491570006", "Ana"), ("+61491570110", "Bo")]
    assert (total, failed, len(problems)) == (3, 1, 1)
    assert (problems[0].row, problems[0].column) == (3, column)
    assert error in problems[0].error
    assert len(problems[0].value) <= 200


def test_cell_of_an_ignored_column_may_be_anything() -> None:
    rows, problems, *_ = read("notes,phone\na\0" + "x" * 5000 + ",0412345678\n")
    assert (len(rows), problems) == (1, [])


def test_too_long_part_of_a_full_name_is_an_error_of_that_name() -> None:
    rows, problems, *_ = read("phone,name\n0412345678,Ana " + "x" * 101 + "\n0491570006,Ana Bell\n")
    assert len(rows) == 1
    assert [(problem.column, problem.value) for problem in problems] == [("last_name", "x" * 101)]


@pytest.mark.parametrize("piece", ["Ana,0412345678\n", "\n", " , \n", '"a\nb",x\n', 'a","\n', '"a"b,\n', "x\n"])
def test_counted_rows_are_those_that_are_read(piece: str) -> None:
    content = ("first_name,phone\n" + piece * 450 + "Ana,0412345678").encode()
    file, total = ContactsFile(io.BytesIO(content)), 0
    while (batch := file.next_batch(1000)) is not None:
        total += batch.total
    assert count_rows(io.BytesIO(content)) == total > 0
    assert count_rows(io.BytesIO(content), max_read_s=-1.0) is None


def test_slow_rows_are_returned_in_small_batches() -> None:
    emails = "".join(f"0412345678,\u00e9{n}@ex\u00e4mple{n}.com\n" for n in range(8000))
    file = ContactsFile(io.BytesIO(("phone,email\n" + emails).encode()))
    batch = file.next_batch(100_000)
    assert batch is not None
    assert batch.total < 8000
