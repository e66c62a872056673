"""Find the columns of a CSV file by its header row, in the spellings that are common."""

from collections import defaultdict
from dataclasses import dataclass

from contacts.errors import NotCsv

FULL_NAME = "full_name"
_HEADERS = {
    "phone": "phone phonenumber phoneno mobile mobilenumber mobileno mobilephone mobilephonenumber cell cellphone"
    " cellnumber telephone tel msisdn contactnumber number",
    "first_name": "firstname first givenname given givennames forename fname christianname",
    "last_name": "lastname last surname familyname family lname",
    FULL_NAME: "name fullname contactname",
    "email": "email emailaddress mail emailid",
    "company": "company companyname organisation organization business businessname employer",
}
_FIELD_OF_HEADER = {header: name for name, headers in _HEADERS.items() for header in headers.split()}
_MAX_LISTED = 500  # ignored columns that are listed
_MAX_SHOWN = 100  # characters of a header in an error or in the list


@dataclass(frozen=True, slots=True)
class Header:
    """The columns of a file: the index of each field that it has, and the names of the others that are not blank."""

    columns: dict[str, int]
    ignored: list[str]


def find_header(cells: list[str]) -> Header | None:
    """Return the columns of a header row, or None if it has no phone column.

    A column for the full name is used when there is none for the first or the last name, else it is ignored. Raises
    NotCsv when two columns have one meaning.
    """
    found: dict[str, list[int]] = defaultdict(list)
    ignored = []
    for index, cell in enumerate(cells):
        name = _FIELD_OF_HEADER.get("".join(filter(str.isalnum, cell.lower())))
        if name is not None:
            found[name].append(index)
        elif cell.strip():
            ignored.append(index)
    if "phone" not in found:
        return None
    if "first_name" in found or "last_name" in found:
        ignored += found.pop(FULL_NAME, [])
    for name, indexes in found.items():
        if len(indexes) > 1:
            shown = " and ".join(f"`{_show(cells[index])}`" for index in indexes[:2])
            raise NotCsv(f"The columns {shown} have one meaning: {name}. Remove or rename one of them.")
    listed = [_show(cells[index]) for index in sorted(ignored)[:_MAX_LISTED]]
    return Header(columns={name: indexes[0] for name, indexes in found.items()}, ignored=listed)


def _show(cell: str) -> str:
    return cell.strip()[:_MAX_SHOWN]


def split_name(full_name: str) -> tuple[str, str]:
    """Return the first and the last name of a full name.

    `Bell, Ana` is last name, first name. Otherwise the first word is the first name and the rest is the last name.
    """
    last, comma, first = full_name.partition(",")
    if comma:
        return first, last
    parts = full_name.split(None, 1)
    return (parts[0], parts[1] if len(parts) > 1 else "") if parts else ("", "")
