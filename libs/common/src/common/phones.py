"""Australian mobile numbers: E.164 inside, 04… at the edge."""

import re

import phonenumbers

_STORED = re.compile(r"\+614[0-9]{8}")
_SCIENTIFIC = re.compile(r"[0-9](?:[.,][0-9]+)?[eE]\+?[0-9]{1,2}")
_ALLOWED = re.compile(r"[0-9+()./ \t\u00a0\u2010-\u2015-]+")
MAX_LENGTH = 40
# The mobiles that ACMA keeps for fiction: nobody has them (facts on Australian numbers).
FICTIONAL_MOBILES = frozenset(
    """
    +61491570006 +61491570110 +61491570156 +61491570157 +61491570158
    +61491570159 +61491570313 +61491570737 +61491571266 +61491571491
    +61491571804 +61491572549 +61491572665 +61491572983 +61491573087
    +61491573770 +61491574118 +61491574632 +61491575254 +61491575789
    +61491576398 +61491576801 +61491577426 +61491577644 +61491578148
    +61491578888 +61491578957 +61491579212 +61491579455 +61491579760
    """.split()
)


class InvalidPhone(ValueError):
    """The text is no Australian mobile number; the message says how to mend it."""


def normalise_phone(text: str) -> str:
    """`+614XXXXXXXX` from any usual spelling (domain.md, Phones). Raises InvalidPhone.

    The rule is the shape, 04 and eight digits, not the library's list of prefixes in use, which lags behind
    (facts on Australian numbers).
    """
    given = text.strip()
    if _SCIENTIFIC.fullmatch(given):
        raise InvalidPhone(
            "A spreadsheet turned this phone number into a number and lost digits. "
            "Format the column as text and enter the number again."
        )
    if len(given) > MAX_LENGTH or not _ALLOWED.fullmatch(given):
        raise InvalidPhone("Enter an Australian mobile number, for example 0412 345 678.")
    try:
        parsed = phonenumbers.parse(given, "AU")
    except phonenumbers.NumberParseException:
        raise InvalidPhone("Enter an Australian mobile number, for example 0412 345 678.") from None
    stored = f"+{parsed.country_code}{parsed.national_number}"
    if not _STORED.fullmatch(stored):
        raise InvalidPhone("Enter an Australian mobile number: 04 and eight more digits.")
    return stored


def show_phone(stored: str) -> str:
    """`04XXXXXXXX` from `+614XXXXXXXX`."""
    return "0" + stored[3:] if stored.startswith("+61") else stored
