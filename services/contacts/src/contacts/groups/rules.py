"""How groups are searched."""

import re

from common.errors import Invalid
from common.fields import clean_text

_WILDCARDS = re.compile(r"([\\%_])")


def search_pattern(search: str) -> str | None:
    """The LIKE pattern for names in lower case; None, no filter, under two characters."""
    if "\0" in search:
        raise Invalid.field("search", "Null characters are not allowed.")
    try:
        wanted = clean_text(search).lower()
    except ValueError as error:
        raise Invalid.field("search", str(error)) from None
    return "%" + _WILDCARDS.sub(r"\\\1", wanted) + "%" if len(wanted) >= 2 else None
