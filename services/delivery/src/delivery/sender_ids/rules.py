"""How a sender ID is written: as providers accept it, and as it is compared."""

import re
from functools import lru_cache

from common.phones import InvalidPhone, normalise_phone

_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9]{3,11}")


@lru_cache(maxsize=16_384)  # the routes are read twice a second, and most of that time was spent parsing numbers
def read_sender_id(value: str) -> str | None:
    """Return a sender ID as providers accept it, or None when it is not valid.

    A mobile is returned as E.164. A name has 3 to 11 letters and digits, with at least one letter.
    """
    if _NAME.fullmatch(value):
        return value
    try:
        return normalise_phone(value)
    except InvalidPhone:
        return None


def canonical_sender_id(value: str) -> str | None:
    """Return a sender ID as it is compared and stored, or None when it is not valid.

    A mobile is E.164, a name is in small letters: both have one owner, however they are spelt.
    """
    sender_id = read_sender_id(value)
    return sender_id and sender_id.casefold()
