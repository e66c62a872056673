"""The types of media that may be uploaded, recognised by their first bytes, and the links to media. Pure."""

import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Self

from delivery.settings import Settings

MAX_BYTES = 409_600


class Kind(NamedTuple):
    """A media type with the extension of its file names."""

    content_type: str
    extension: str


class StoredFile(NamedTuple):
    """A file in the storage."""

    id: int
    name: str
    created_at: datetime


_PNG, _JPEG, _GIF = Kind("image/png", ".png"), Kind("image/jpeg", ".jpg"), Kind("image/gif", ".gif")
_STARTS = ((b"\x89PNG\r\n\x1a\n", _PNG), (b"\xff\xd8\xff", _JPEG), (b"GIF87a", _GIF), (b"GIF89a", _GIF))


def kind_of(content: bytes) -> Kind | None:
    """Return PNG, JPEG or GIF, by the first bytes that their specifications require; None for anything else."""
    return next((kind for start, kind in _STARTS if content.startswith(start)), None)


def content_type_of(name: str) -> str:
    """Return the media type of a file that we named."""
    return next(kind.content_type for kind in (_PNG, _JPEG, _GIF) if name.endswith(kind.extension))


@dataclass(frozen=True)
class Links:
    """The addresses of media: at `public_base` if the storage is public, else signed ones at `base`, delivery's own.

    A link has no expiry, because a schedule may need it a year later. It ends when its file is deleted.
    """

    base: str
    key: bytes
    public_base: str = ""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the links of an installation."""
        secret = settings.media_link_secret.get_secret_value() or settings.internal_token_secret.get_secret_value()
        key = hmac.digest(secret.encode(), b"media links", "sha256")
        return cls(settings.public_url.rstrip("/"), key, settings.media_public_url.rstrip("/"))

    def url(self, name: str) -> str:
        """Return the address of a file."""
        return f"{self.public_base}/{name}" if self.public_base else f"{self.base}/media/{self._sign(name)}/{name}"

    def is_valid(self, signature: str, name: str) -> bool:
        """Return whether the signature of a link is ours."""
        return hmac.compare_digest(signature.encode(), self._sign(name).encode())

    def _sign(self, name: str) -> str:
        return hmac.digest(self.key, name.encode(), "sha256").hex()[:32]
