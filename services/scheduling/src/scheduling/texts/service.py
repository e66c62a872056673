"""Texts as they go out: filled, checked and measured."""

from typing import NoReturn

from common.errors import Invalid
from common.events import Format
from common.sms import measure
from scheduling.texts.rules import MMS_LENGTH, Names, count_parts, fill, has_placeholders, simplify
from scheduling.texts.schemas import AnyText, Cost, Preview, Text

__all__ = ["AnyText", "Names", "Preview", "Text", "check_message", "count_parts", "fill", "find_fault", "preview"]


def find_fault(message_format: Format, filled: str, max_parts: int) -> str | None:
    """Why a filled text cannot go out, in a sentence, or None."""
    if message_format == "mms":
        return None if len(filled) <= MMS_LENGTH else f"The text of an MMS may have {MMS_LENGTH} characters at most."
    if not filled:
        return "The message has no text."
    parts = measure(filled).parts
    return None if parts <= max_parts else f"This message has {parts} parts; {max_parts} are the most."


def check_message(message_format: Format, text: str, names: Names | None, max_parts: int, field: str) -> int:
    """The parts of a text as it would go to these names, or, with None, to nobody. Raises Invalid under `field`."""
    if names is None and has_placeholders(text):
        _refuse(field, "Placeholders need a contact to fill them.")
    filled = fill(text, names or Names())
    fault = find_fault(message_format, filled, max_parts)
    if fault is not None:
        _refuse(field, fault)
    return count_parts(message_format, filled)


def _refuse(field: str, message: str) -> NoReturn:
    raise Invalid.field(field, message)


def preview(text: str, names: Names | None) -> Preview:
    """What a text costs, and a plainer one when there is one; without names placeholders stand."""
    filled = fill(text, names) if names is not None else text
    plain = simplify(filled)
    return Preview(**_cost(filled).model_dump(), suggestion=_cost(plain) if plain != filled else None)


def _cost(text: str) -> Cost:
    measured = measure(text)
    return Cost(text=text, encoding=measured.encoding, units=measured.units, parts=measured.parts)
