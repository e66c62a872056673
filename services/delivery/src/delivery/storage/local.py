"""A folder of this machine, served by delivery itself under signed links."""

import asyncio
import hashlib
import hmac
from pathlib import Path

from delivery.settings import Settings
from delivery.storage.base import Storage, StorageFault


class LocalStorage(Storage):
    """For one machine, or a folder that all replicas share. A link is good as long as the file is there."""

    name = "local"

    def __init__(self, settings: Settings) -> None:
        self._folder = Path(settings.media_folder)
        self._base = settings.public_url.rstrip("/")
        secret = settings.internal_token_secret.get_secret_value()
        self._key = hmac.digest(secret.encode(), b"media links", "sha256")

    async def put(self, name: str, content: bytes, content_type: str) -> str:
        try:
            await asyncio.to_thread(self._write, name, content)
        except OSError as error:
            raise StorageFault from error
        return f"{self._base}/media/{self._sign(name)}/{name}"

    def find(self, signature: str, name: str) -> Path | None:
        """The file of a link, None when the link was not made here or its file is gone."""
        if not hmac.compare_digest(signature.encode(), self._sign(name).encode()):
            return None
        path = self._folder / name
        return path if path.is_file() else None

    def _write(self, name: str, content: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = self._folder / f".{name}"
        unfinished.write_bytes(content)
        unfinished.replace(self._folder / name)

    def _sign(self, name: str) -> str:
        return hmac.new(self._key, name.encode(), hashlib.sha256).hexdigest()[:32]
