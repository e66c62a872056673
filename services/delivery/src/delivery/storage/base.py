"""The port to the storages of media. The addresses of media and their signatures belong to `delivery.media`."""

from abc import ABC, abstractmethod
from typing import ClassVar

from pydantic_settings import BaseSettings

from common.errors import Unavailable
from delivery.settings import OwnSettings, Settings


class StorageError(Unavailable):
    """The storage could not store, read or delete a file. The operation can be tried again."""

    default = "The file could not be stored or read. Try again in a moment."


class Storage(ABC):
    """A place for files. A name is used for one file only.

    Every method raises StorageError and nothing else. Its cause names no address, because addresses may have
    signatures.
    """

    name: ClassVar[str]
    settings_class: ClassVar[type[BaseSettings]] = OwnSettings

    def __init__(self, settings: Settings, own: BaseSettings | None = None) -> None:  # noqa: B027 (optional)
        """Read the settings. `own`, of `settings_class`, is read from the environment when it is None.

        Raises InvalidSetting, which names what is missing or cannot be used.
        """

    @abstractmethod
    async def put(self, name: str, content: bytes, content_type: str) -> None:
        """Store a file."""

    @abstractmethod
    async def get(self, name: str) -> bytes | None:
        """Return the content of a file, or None if there is no file of that name."""

    @abstractmethod
    async def delete(self, name: str) -> None:
        """Delete a file. It is no error if there is none."""

    async def close(self) -> None:  # noqa: B027 (optional)
        """Close connections."""
