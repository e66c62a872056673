"""A folder of this machine."""

import asyncio
from pathlib import Path

from pydantic_settings import SettingsConfigDict

from delivery.settings import OwnSettings, Settings
from delivery.storage.base import Storage, StorageError


class LocalSettings(OwnSettings):
    """The settings of the local storage."""

    model_config = SettingsConfigDict(env_prefix="MEDIA_")

    folder: str = ".cooee/media"


class LocalStorage(Storage):
    """A folder, for one machine or shared by all replicas."""

    name = "local"
    settings_class = LocalSettings

    def __init__(self, settings: Settings, own: LocalSettings | None = None) -> None:
        own = own or LocalSettings.from_environment()
        self._folder = Path(own.folder)

    async def put(self, name: str, content: bytes, content_type: str) -> None:
        try:
            await asyncio.to_thread(self._write, name, content)
        except OSError as error:
            raise StorageError from error

    async def get(self, name: str) -> bytes | None:
        try:
            return await asyncio.to_thread((self._folder / name).read_bytes)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError from error

    async def delete(self, name: str) -> None:
        try:
            await asyncio.to_thread((self._folder / name).unlink, missing_ok=True)
        except OSError as error:
            raise StorageError from error

    def _write(self, name: str, content: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = self._folder / f".{name}"
        unfinished.write_bytes(content)
        unfinished.replace(self._folder / name)
