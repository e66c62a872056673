"""The header row: fields by their spellings, columns with one meaning, full names, and what is ignored."""

import pytest

from contacts.errors import NotCsv
from contacts.imports.csv_header import find_header, split_name


@pytest.mark.parametrize(
    ("header", "first", "second"),
    [
        ("phone,first_name,Phone", "phone", "Phone"),
        ("Mobile,x,number", "Mobile", "number"),
        ("phone,First Name,given_name", "First Name", "given_name"),
        ("phone,email,E-mail", "email", "E-mail"),
        ("phone,name,Full Name", "name", "Full Name"),
        ("phone,company,Organisation", "company", "Organisation"),
    ],
)
def test_two_columns_with_one_meaning_are_both_named(header: str, first: str, second: str) -> None:
    with pytest.raises(NotCsv) as raised:
        find_header(header.split(","))
    (sentence,) = raised.value.fields["file"]
    assert f"`{first}` and `{second}`" in sentence


@pytest.mark.parametrize(
    ("header", "columns", "ignored"),
    [
        ("phone,Notes,notes,", {"phone": 0}, ["Notes", "notes"]),
        ("Full Name,phone", {"full_name": 0, "phone": 1}, []),
        ("x,name,phone,surname, Name ", {"phone": 2, "last_name": 3}, ["x", "name", "Name"]),
        ("phone," + "y" * 300, {"phone": 0}, ["y" * 100]),
    ],
)
def test_other_columns_are_ignored_and_listed_in_their_order(
    header: str, columns: dict[str, int], ignored: list[str]
) -> None:
    found = find_header(header.split(","))
    assert found is not None
    assert (found.columns, found.ignored) == (columns, ignored)


def test_header_without_a_phone_column_is_none_whatever_else_is_wrong() -> None:
    assert find_header(["name", "Name", "first_name"]) is None


def test_list_of_ignored_columns_is_bounded() -> None:
    found = find_header(["phone", *map(str, range(5000))])
    assert found is not None
    assert found.ignored == [str(n) for n in range(500)]


@pytest.mark.parametrize(
    ("full", "first", "last"),
    [
        ("Ana Bell", "Ana", "Bell"),
        ("  Ana  Maria van der Berg ", "Ana", "Maria van der Berg "),
        ("Bell, Ana Maria", " Ana Maria", "Bell"),
        ("Ana", "Ana", ""),
        (" ", "", ""),
    ],
)
def test_full_name_is_split_after_its_first_part_or_at_its_comma(full: str, first: str, last: str) -> None:
    assert split_name(full) == (first, last)
