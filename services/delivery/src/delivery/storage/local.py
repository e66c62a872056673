"""A folder of this machine."""

import asyncio
from pathlib import Path

from delivery.settings import Settings
from delivery.storage.base import Storage, StorageFault


class LocalStorage(Storage):
    """For one machine, or a folder that all replicas share."""

    name = "local"

    def __init__(self, settings: Settings) -> None:
        self._folder = Path(settings.media_folder)

    async def put(self, name: str, content: bytes, content_type: str) -> None:
        try:
            await asyncio.to_thread(self._write, name, content)
        except OSError as error:
            raise StorageFault from error

    async def get(self, name: str) -> bytes | None:
        try:
            return await asyncio.to_thread((self._folder / name).read_bytes)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageFault from error

    async def delete(self, name: str) -> None:
        try:
            await asyncio.to_thread((self._folder / name).unlink, missing_ok=True)
        except OSError as error:
            raise StorageFault from error

    def _write(self, name: str, content: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = self._folder / f".{name}"
        unfinished.write_bytes(content)
        unfinished.replace(self._folder / name)
