"""Placeholders of a text: which are known, and how a contact's fields fill them."""

import re
from collections.abc import Mapping

from common.events import PLACEHOLDERS

_PLACEHOLDER = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_KNOWN = frozenset(PLACEHOLDERS)


def find_unknown_placeholder(text: str) -> str | None:
    """Return a sentence about the first placeholder that no field fills, or None."""
    if "{{" not in text:
        return None
    unknown = next((m.group(0) for m in _PLACEHOLDER.finditer(text) if m.group(1) not in _KNOWN), None)
    if unknown is None:
        return None
    *others, last = (f"{{{{{name}}}}}" for name in PLACEHOLDERS)
    return f"Unknown placeholder {unknown[:60]}: use {', '.join(others)} or {last}."


def has_placeholders(text: str) -> bool:
    """Return whether a contact is needed to fill the text."""
    return "{{" in text and _PLACEHOLDER.search(text) is not None


def fill(text: str, fields: Mapping[str, str]) -> str:
    """Return the text with its placeholders filled. A known field without a value is filled with nothing."""
    if "{{" not in text:
        return text

    def value(found: re.Match[str]) -> str:
        name = found.group(1)
        return fields.get(name, "") if name in _KNOWN else found.group(0)

    return _PLACEHOLDER.sub(value, text).strip()
