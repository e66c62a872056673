"""The size of a text, whether it can be sent, and its plainer form."""

import unicodedata
from collections.abc import Mapping
from functools import lru_cache

from common.errors import Invalid
from common.events import Format
from common.fields import is_blank
from common.sms import measure
from scheduling.templates.rules import fill, has_placeholders

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


@lru_cache(maxsize=20_000)  # lists show the same messages again and again
def count_parts(message_format: Format, filled: str) -> int:
    """Return the parts of an SMS. An MMS always counts as one."""
    return 1 if message_format == "mms" else measure(filled).parts


def check_filled(message_format: Format, filled: str, max_parts: int) -> tuple[int, str | None]:
    """Return the parts of a filled text, and the sentence that says why it cannot be sent, or None."""
    if message_format == "mms":
        too_long = len(filled) > MMS_LENGTH
        return 1, f"The text of an MMS may have {MMS_LENGTH} characters at most." if too_long else None
    parts = measure(filled).parts
    if is_blank(filled):
        return parts, "The message has no text."
    return parts, describe_excess(parts, max_parts)


def describe_excess(parts: int, max_parts: int) -> str | None:
    """Return the sentence that refuses an SMS with too many parts, or None."""
    return None if parts <= max_parts else f"This message has {parts} parts; {max_parts} are the most."


def check_message(
    message_format: Format, text: str, fields: Mapping[str, str] | None, max_parts: int, field: str
) -> int:
    """Return the parts of a text as these placeholder values fill it; None stands for a message without a contact.

    Raises Invalid under `field`.
    """
    if fields is None and has_placeholders(text):
        raise Invalid.field(field, "Placeholders need a contact to fill them.")
    parts, fault = check_filled(message_format, fill(text, fields or {}), max_parts)
    if fault is not None:
        raise Invalid.field(field, fault)
    return parts


def simplify(text: str) -> str:
    """Return the text with typographic characters in their plain forms, which keep a message in GSM-7.

    Letters with separate accents are composed: GSM-7 has é, and not its accent.
    """
    return unicodedata.normalize("NFC", text).translate(_PLAIN).strip()
