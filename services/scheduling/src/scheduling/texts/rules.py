"""Placeholders, what a text costs, and its plainer form: api.md, Templates; domain.md, Text."""

import re
from dataclasses import dataclass

from common.events import Format
from common.sms import measure

_PLACEHOLDER = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
PLACEHOLDERS = ("first_name", "last_name", "company")
MMS_LENGTH = 1600

_PLAIN = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′`´", "'"),
        **dict.fromkeys("“”„‟″«»", '"'),
        **dict.fromkeys("‐‑‒–—―−", "-"),
        **dict.fromkeys("\u00a0\u1680\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B))), " "),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
        "…": "...",
        "\t": " ",
        "•": "-",
    }
)


@dataclass(frozen=True, slots=True)
class Names:
    """What fills the placeholders of a message to one contact."""

    first_name: str = ""
    last_name: str = ""
    company: str = ""


def find_unknown(text: str) -> str | None:
    """The first placeholder that nothing fills, as it was written, or None."""
    if "{{" not in text:
        return None
    return next((m.group(0) for m in _PLACEHOLDER.finditer(text) if m.group(1) not in PLACEHOLDERS), None)


def has_placeholders(text: str) -> bool:
    """Whether a contact is needed to fill the text."""
    return "{{" in text and _PLACEHOLDER.search(text) is not None


def fill(text: str, names: Names) -> str:
    """The text with its placeholders filled; an empty value fills in nothing."""
    if "{{" not in text:
        return text
    return _PLACEHOLDER.sub(lambda m: str(getattr(names, m.group(1), m.group(0))), text).strip()


def count_parts(message_format: Format, filled: str) -> int:
    """Parts of an SMS; an MMS is always 1."""
    return 1 if message_format == "mms" else measure(filled).parts


def simplify(text: str) -> str:
    """The text with typographic characters in their plain forms, which keep a message in GSM-7."""
    return text.translate(_PLAIN).strip()
