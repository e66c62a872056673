"""The rules of contacts and groups that need no database."""

import io
from collections.abc import Callable

import pytest

from common.errors import AppError
from common.events import PLACEHOLDERS
from contacts.contacts.rules import check_email, search_patterns
from contacts.groups.rules import search_pattern
from contacts.imports.csv_file import ContactsFile


@pytest.mark.parametrize("email", ["", "ana@example.com", "ana@exämple.com"])
def test_plain_and_international_addresses_are_returned_unchanged(email: str) -> None:
    assert check_email(email) == email


@pytest.mark.parametrize("email", ["ana", "ana@", "ana@example", '"ana bell"@example.com', "a" * 250 + "@b.au"])
def test_text_that_is_not_an_address_raises_value_error(email: str) -> None:
    with pytest.raises(ValueError, match="valid email address"):
        check_email(email)


@pytest.mark.parametrize(
    ("search", "patterns"),
    [
        ("", []),
        (" Ana ", ["%Ana%"]),
        ("50%_\\", ["%50\\%\\_\\\\%"]),
        ("0491 570", ["%0491 570%", "%0491570%"]),
        ("+61 491", ["%+61 491%", "%61491%", "%0491%"]),
        ("(04) 91-57.0", ["%(04) 91-57.0%", "%0491570%"]),
        ("+61 (0)491", ["%+61 (0)491%", "%61491%", "%0491%"]),
    ],
)
def test_search_gives_patterns_for_names_and_phones(search: str, patterns: list[str]) -> None:
    assert search_patterns(search) == patterns


def test_lone_surrogate_in_a_search_raises_invalid_under_its_name() -> None:
    for search in (search_patterns, search_pattern):
        with pytest.raises(AppError) as raised:
            search("ana\ud800")
        assert raised.value.fields == {"search": ["Lone surrogates are not allowed."]}


@pytest.mark.parametrize("name", PLACEHOLDERS)
@pytest.mark.parametrize(
    "spell", [str, lambda name: name.replace("_", " ").title() + " *"], ids=["name", "as people write"]
)
def test_an_import_reads_every_placeholder_field(name: str, spell: Callable[[str], str]) -> None:
    file = ContactsFile(io.BytesIO(f"Phone,{spell(name)}\n0412345678,Kerr\n".encode()))
    batch = file.next_batch(10)
    assert batch is not None
    assert batch.columns.get(name) == ["Kerr"], "add it to MAX_LENGTHS, and its spellings to _HEADERS of the import"
