"""Parts, phones and cleaned text: known test values, and a slow reference implementation."""

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.fields import clean_text, is_blank
from common.phones import InvalidPhone, normalise_phone, show_phone
from common.sms import _BASIC, _EXTENSION, measure

VECTORS = [
    ("", "GSM-7", 0, 1),
    ("a" * 160, "GSM-7", 160, 1),
    ("a" * 161, "GSM-7", 161, 2),
    ("a" * 306, "GSM-7", 306, 2),
    ("a" * 307, "GSM-7", 307, 3),
    ("a" * 159 + "€", "GSM-7", 161, 2),
    ("a" * 152 + "€" + "a" * 152, "GSM-7", 306, 3),
    ("a" * 152 + "[" + "a" * 151, "GSM-7", 305, 2),
    ("a" * 69 + "’", "UCS-2", 70, 1),
    ("a" * 70 + "’", "UCS-2", 71, 2),
    ("😀" + "a" * 68, "UCS-2", 70, 1),
    ("😀" + "a" * 69, "UCS-2", 71, 2),
    ("a" * 159 + "`", "UCS-2", 160, 3),
    ("a" * 134 + "😀", "UCS-2", 136, 3),
    ("a" * 66 + "😀" + "a" * 66, "UCS-2", 134, 3),
    ("a" * 100 + "Ç", "GSM-7", 101, 1),
    ("a" * 100 + "ç", "UCS-2", 101, 2),
    ("€" * 153, "GSM-7", 306, 3),
    ("ж" * 135, "UCS-2", 135, 3),
    ("😀" * 36, "UCS-2", 72, 2),
]


@pytest.mark.parametrize(("text", "encoding", "units", "parts"), VECTORS)
def test_measure_agrees_with_the_published_vectors(text: str, encoding: str, units: int, parts: int) -> None:
    found = measure(text)
    assert (found.encoding, found.units, found.parts) == (encoding, units, parts)


def reference(text: str) -> tuple[str, int, int]:
    """The rule written down slowly: widths, then parts filled one character after another."""
    gsm = all(c in _BASIC or c in _EXTENSION for c in text)
    widths = [(2 if c in _EXTENSION else 1) if gsm else len(c.encode("utf-16-be")) // 2 for c in text]
    single, each = (160, 153) if gsm else (70, 67)
    parts = [0]
    for width in widths:
        if parts[-1] + width > each:
            parts.append(0)
        parts[-1] += width
    return "GSM-7" if gsm else "UCS-2", sum(widths), 1 if sum(widths) <= single else len(parts)


@given(st.text(alphabet=st.sampled_from("ab€[’ç😀ж"), max_size=700))
def test_measure_agrees_with_a_slow_reference(text: str) -> None:
    found = measure(text)
    assert (found.encoding, found.units, found.parts) == reference(text)


@given(st.text(alphabet=st.sampled_from("ab€["), min_size=140, max_size=700))
def test_measure_agrees_with_a_slow_reference_on_plain_text(text: str) -> None:
    found = measure(text)
    assert (found.encoding, found.units, found.parts) == reference(text)


@pytest.mark.parametrize(
    "text",
    [
        "0412345678",
        "+61412345678",
        "61412345678",
        "412345678",
        "+61 (0)412 345 678",
        "(04) 1234 5678",
        "0011 61 412 345 678",
        " 0412-345-678 ",
        "0412.345.678",
    ],
)
def test_every_usual_spelling_becomes_the_same_number(text: str) -> None:
    assert normalise_phone(text) == "+61412345678"
    assert show_phone("+61412345678") == "0412345678"


def test_a_prefix_that_the_library_does_not_know_is_accepted_by_its_shape() -> None:
    assert normalise_phone("0441 234 567") == "+61441234567"


@given(st.lists(st.sampled_from([*"+0() -./\t", "61", "0011", "1831", "412345678"]), max_size=7).map("".join))
def test_every_spelling_is_read_as_the_library_reads_it(text: str) -> None:
    try:
        parsed = phonenumbers.parse(text, "AU")
    except phonenumbers.NumberParseException:
        expected = ""
    else:
        expected = f"+{parsed.country_code}{parsed.national_number}"
    try:
        found = normalise_phone(text)
    except InvalidPhone:
        found = ""
    assert found == (expected if expected.startswith("+614") and len(expected) == 12 else "")


@pytest.mark.parametrize(
    "text",
    ["", "   ", "041234567", "04123456789", "0212345678", "0512345678", "1300 123 456", "0412345678 ext 5", "abc"]
    + ["0412345678\0", "٠٤١٢٣٤٥٦٧٨", "+14155550100", "0" * 200, "tel:0412345678;x=1", "0412345678,0412345679"],
)
def test_a_text_that_is_not_an_australian_mobile_is_refused(text: str) -> None:
    with pytest.raises(InvalidPhone):
        normalise_phone(text)


@pytest.mark.parametrize(
    "text",
    ["\u202a0412 345 678\u202c", "+61\u200b412\ufeff345678", "\u20680412345678\u2069", "0412\u00ad345\ufe0f678"]
    + ["(04)\u202f1234\u30005678", "\u200e+61 412 345 678\u200f"],
)
def test_invisible_characters_of_a_phone_are_removed(text: str) -> None:
    assert normalise_phone(text) == "+61412345678"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("٠412345678", r"U\+0660 \(ARABIC-INDIC DIGIT ZERO\)"),
        ("\u200b０412345678", r"U\+FF10 \(FULLWIDTH DIGIT ZERO\)"),
        ("0412345678\ud800", r"U\+D800 \(unnamed\)"),
    ],
)
def test_another_character_of_a_phone_is_named(text: str, named: str) -> None:
    with pytest.raises(InvalidPhone, match=named):
        normalise_phone(text)


@pytest.mark.parametrize(
    "text", ["", " \n", *"\u200b\u2060\ufeff\u00ad\ufe0f\u202e\u3164\u2800\u034f", "\u200b \u2060\n"]
)
def test_a_text_without_a_visible_character_is_blank(text: str) -> None:
    assert is_blank(text)
    for visible in ("a", ".", "é", "😀", "٠"):
        assert not is_blank(text + visible)


def test_a_number_that_a_spreadsheet_rounded_gets_an_error_that_says_so() -> None:
    with pytest.raises(InvalidPhone, match="spreadsheet"):
        normalise_phone("4.12346E+08")


def test_control_characters_are_removed_and_line_breaks_become_lf() -> None:
    assert clean_text(" a\r\nb\rc\td\x07\x85 ") == "a\nb\nc d"
    with pytest.raises(ValueError, match="surrogate"):
        clean_text("a\ud800")
