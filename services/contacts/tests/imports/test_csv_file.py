"""The reader of CSV files: batches, rows with line breaks, and files that would be costly to read."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contacts.errors import NotCsv
from contacts.imports.csv_file import MAX_PROBLEMS, ContactsFile, Problem

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
