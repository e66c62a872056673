"""Count the encoding, units and parts of a text, as providers bill them (3GPP TS 23.038 and 23.040)."""

from dataclasses import dataclass

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("\f^{}\\[~]|€")
_GSM = _BASIC | _EXTENSION
_LIMITS = {"GSM-7": (160, 153), "UCS-2": (70, 67)}


@dataclass(frozen=True, slots=True)
class Measure:
    """The size of a text. `units` are septets (GSM-7) or 16-bit units (UCS-2). `parts` is at least 1."""

    encoding: str
    units: int
    parts: int


def measure(text: str) -> Measure:
    """Return the encoding, units and parts of a text. A two-unit character is never split over two parts."""
    characters = set(text)
    if characters <= _GSM:
        encoding = "GSM-7"
        units = len(text) + (sum(text.count(c) for c in characters & _EXTENSION) if characters & _EXTENSION else 0)
    else:
        encoding = "UCS-2"
        units = len(text) + sum(c > "\uffff" for c in text)
    single, each = _LIMITS[encoding]
    if units <= single:
        return Measure(encoding, units, 1)
    if units == len(text):
        return Measure(encoding, units, -(-units // each))
    return Measure(encoding, units, _pack(text, each, _EXTENSION if encoding == "GSM-7" else None))


def _pack(text: str, each: int, extension: frozenset[str] | None) -> int:
    """Return the number of parts. A two-unit character that does not fit goes to the next part."""
    parts, filled = 1, 0
    for character in text:
        width = 2 if (character in extension if extension is not None else character > "\uffff") else 1
        if filled + width > each:
            parts, filled = parts + 1, 0
        filled += width
    return parts
