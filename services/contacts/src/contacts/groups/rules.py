"""Rules of groups that need no database."""

from common.errors import Invalid
from common.fields import clean_text
from contacts.contacts.rules import containing


def search_pattern(search: str) -> str | None:
    """Return the LIKE pattern for names, or None (no filter) for fewer than two characters.

    The statement folds the case of the pattern and of the names.

    Raises Invalid for characters that cannot be searched for.
    """
    if "\0" in search:
        raise Invalid.field("search", "Null characters are not allowed.")
    try:
        wanted = clean_text(search)
    except ValueError as error:
        raise Invalid.field("search", str(error)) from None
    return containing(wanted) if len(wanted) >= 2 else None
