"""Check the texts of an action, a reason and a name. They are without phones, because no row can be removed."""

import re
from enum import StrEnum

REASON_LENGTH = (5, 500)
OPERATOR_LENGTH = (1, 100)
# A day such as 2026-11-29 has eight digits and is no phone.
_DAY = re.compile(r"\b(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])\b(?!-)")
_PHONE = re.compile(r"\+?(?:\d[\W_]*){7,}\d")


class Step(StrEnum):
    """One of the two rows of an action."""

    BEGIN = "begin"
    END = "end"


class ActionOutcome(StrEnum):
    """The outcome of an action.

    done: it did what was asked. refused: it changed nothing, because the request was wrong. failed: it was interrupted
    or met an error, and may have changed a part.
    """

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


class InvalidActionText(ValueError):
    """A reason or a name is too short, too long, or names a phone. The text says what to enter."""


def check_reason(value: str) -> str:
    """Return a reason without spaces around it. Raises InvalidActionText."""
    return _check(value, "a reason", REASON_LENGTH)


def check_operator(value: str) -> str:
    """Return an operator's name without spaces around it. Raises InvalidActionText."""
    return _check(value, "a name", OPERATOR_LENGTH)


def has_phone(value: str) -> bool:
    """Return whether a text has what may be a phone: eight digits, with or without signs between them."""
    return _PHONE.search(_DAY.sub("", value)) is not None


def mask_phones(value: str) -> str:
    """Return a text with the middle digits of what may be phones hidden."""
    return _PHONE.sub(lambda found: f"{found[0][:4]}…{found[0][-2:]}", value)


def _check(value: str, what: str, lengths: tuple[int, int]) -> str:
    given, (shortest, longest) = " ".join(value.split()), lengths
    if not (shortest <= len(given) <= longest and given.isprintable()):
        raise InvalidActionText(f"enter {what} of {shortest} to {longest} printable characters")
    if has_phone(given):
        problem = "without a phone number (eight digits or more), because it cannot be removed"
        raise InvalidActionText(f"enter {what} {problem}")
    return given
