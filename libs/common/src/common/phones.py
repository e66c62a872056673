"""Australian mobile numbers: E.164 inside the system, `04…` in the API."""

import re
import unicodedata

import phonenumbers

_STORED = re.compile(r"\+614[0-9]{8}")
_PLAIN = re.compile(r"(?:(?:\+?61)?0?)(4[0-9]{8})")
_SCIENTIFIC = re.compile(r"([0-9])(?:[.,]([0-9]+))?[eE]\+?([0-9]{1,2})")
_DECIMAL = re.compile(r"([0-9]{9,11})[.,]0{1,2}")
_PUNCTUATION = str.maketrans(dict.fromkeys("()./ \u00a0\u2010\u2011\u2012\u2013\u2014\u2015-", ""))
_ALLOWED = re.compile(r"[0-9+()./ \t\u00a0\u2010-\u2015-]+")
_VARIATIONS = frozenset(map(chr, range(0xFE00, 0xFE10)))
MAX_LENGTH = 40
# The mobile numbers that ACMA reserves for fiction. No person has one of them.
# fmt: off
FICTIONAL_MOBILES = frozenset(f"+614915{rest}" for rest in (
    "70006", "70110", "70156", "70157", "70158", "70159", "70313", "70737", "71266", "71491",
    "71804", "72549", "72665", "72983", "73087", "73770", "74118", "74632", "75254", "75789",
    "76398", "76801", "77426", "77644", "78148", "78888", "78957", "79212", "79455", "79760",
))
# fmt: on


class InvalidPhone(ValueError):
    """The text is not an Australian mobile number. The message says how to correct it."""


def normalise_phone(text: str) -> str:
    """Return `+614XXXXXXXX` from any usual spelling. Raises InvalidPhone.

    The rule is the shape, 04 and eight digits. The library's list of prefixes in use is older than the numbers that
    ACMA has allocated since.
    """
    # Most numbers are plain, and phonenumbers takes fifty times as long. An import has 100,000 of them.
    plain = _PLAIN.fullmatch(text.replace(" ", ""))
    if plain:
        return "+61" + plain[1]
    given = _undo_spreadsheet(_remove_invisible(text).strip())
    if len(given) > MAX_LENGTH or not _ALLOWED.fullmatch(given):
        raise InvalidPhone(_describe_character(given) + "Enter an Australian mobile number, for example 0412 345 678.")
    plain = _PLAIN.fullmatch(given.translate(_PUNCTUATION))
    if plain:
        return "+61" + plain[1]
    try:
        parsed = phonenumbers.parse(given, "AU")
    except phonenumbers.NumberParseException:
        raise InvalidPhone("Enter an Australian mobile number, for example 0412 345 678.") from None
    stored = f"+{parsed.country_code}{parsed.national_number}"
    if not _STORED.fullmatch(stored):
        raise InvalidPhone("Enter an Australian mobile number: 04 and eight more digits.")
    return stored


def _remove_invisible(text: str) -> str:
    """Return the text without characters that nobody sees, such as the marks of direction that address books add."""
    if text.isascii():
        return text
    shown = (c for c in text if unicodedata.category(c) != "Cf" and c not in _VARIATIONS)
    return "".join(" " if unicodedata.category(c) == "Zs" else c for c in shown)


def _describe_character(given: str) -> str:
    """Return the sentence about the first character outside of ASCII that no phone number has, "" without one."""
    found = next((c for c in given if not c.isascii() and not _ALLOWED.fullmatch(c)), None)
    if found is None:
        return ""
    return f"The character U+{ord(found):04X} ({unicodedata.name(found, 'unnamed')}) is not allowed here. "


def _undo_spreadsheet(given: str) -> str:
    """Return the digits of a cell that a spreadsheet turned into a number, if none of them was lost."""
    decimal = _DECIMAL.fullmatch(given)
    if decimal:
        return decimal[1]
    scientific = _SCIENTIFIC.fullmatch(given)
    if not scientific:
        return given
    digits = scientific[1] + (scientific[2] or "")
    if len(digits) != int(scientific[3]) + 1:
        raise InvalidPhone(
            "A spreadsheet turned this phone number into a number and lost digits. "
            "Format the column as text and enter the number again."
        )
    return digits


def show_phone(stored: str) -> str:
    """Return `04XXXXXXXX` for `+614XXXXXXXX`."""
    return "0" + stored[3:] if stored.startswith("+61") else stored
