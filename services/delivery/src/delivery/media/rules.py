"""What may be uploaded, told by the bytes and never by a name or header; and the links to what was."""

import hmac
from dataclasses import dataclass
from typing import NamedTuple, Self

from delivery.settings import Settings

MAX_BYTES = 409_600


class Kind(NamedTuple):
    """A media type with its extension."""

    content_type: str
    extension: str


_PNG, _JPEG, _GIF = Kind("image/png", ".png"), Kind("image/jpeg", ".jpg"), Kind("image/gif", ".gif")
_STARTS = ((b"\x89PNG\r\n\x1a\n", _PNG), (b"\xff\xd8\xff", _JPEG), (b"GIF87a", _GIF), (b"GIF89a", _GIF))


def kind_of(content: bytes) -> Kind | None:
    """PNG, JPEG or GIF by the first bytes (their specifications); None for anything else."""
    return next((kind for start, kind in _STARTS if content.startswith(start)), None)


def content_type_of(name: str) -> str:
    """The media type of a file that was named here."""
    return next(kind.content_type for kind in (_PNG, _JPEG, _GIF) if name.endswith(kind.extension))


@dataclass(frozen=True)
class Links:
    """Addresses of media: at `open_base` where anyone can read them, else at `base`, delivery's own, signed.

    They never expire, since a schedule keeps them for up to a year: a link ends with its file.
    """

    base: str
    key: bytes
    open_base: str = ""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        secret = settings.media_link_secret.get_secret_value() or settings.internal_token_secret.get_secret_value()
        key = hmac.digest(secret.encode(), b"media links", "sha256")
        return cls(settings.public_url.rstrip("/"), key, settings.media_public_url.rstrip("/"))

    def url(self, name: str) -> str:
        """The address that is handed out for a file."""
        return f"{self.open_base}/{name}" if self.open_base else f"{self.base}/media/{self._sign(name)}/{name}"

    def is_mine(self, signature: str, name: str) -> bool:
        """Whether a link was made here."""
        return hmac.compare_digest(signature.encode(), self._sign(name).encode())

    def _sign(self, name: str) -> str:
        return hmac.digest(self.key, name.encode(), "sha256").hex()[:32]
