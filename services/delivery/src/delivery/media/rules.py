"""What may be uploaded: told by the bytes, never by a name or header."""

from typing import NamedTuple

MAX_BYTES = 409_600
_KINDS = (
    (b"\x89PNG\r\n\x1a\n", "image/png", ".png"),
    (b"\xff\xd8\xff", "image/jpeg", ".jpg"),
    (b"GIF87a", "image/gif", ".gif"),
    (b"GIF89a", "image/gif", ".gif"),
)


class Kind(NamedTuple):
    """A media type with its extension."""

    content_type: str
    extension: str


def kind_of(content: bytes) -> Kind | None:
    """PNG, JPEG or GIF by the first bytes (their specifications); None for anything else."""
    return next((Kind(kind, extension) for start, kind, extension in _KINDS if content.startswith(start)), None)
