"""The port to where media lie. Who may fetch them, and under which address, is no business of a storage."""

from abc import ABC, abstractmethod
from typing import ClassVar

from common.errors import Unavailable


class StorageFault(Unavailable):
    """The storage did not do what it was asked. Nothing was promised, it can be tried again."""

    default = "The file could not be stored or read. Try again in a moment."


class Storage(ABC):
    """Keeps files under names that are never used twice. Made from delivery's settings; raises InvalidSetting.

    Every method raises StorageFault and nothing else. What caused it names no address: those may hold a signature.
    """

    name: ClassVar[str]

    @abstractmethod
    async def put(self, name: str, content: bytes, content_type: str) -> None:
        """Keeps a file."""

    @abstractmethod
    async def get(self, name: str) -> bytes | None:
        """A file's content, None when there is none of that name."""

    @abstractmethod
    async def delete(self, name: str) -> None:
        """Removes a file; one that is gone already is no fault."""

    async def close(self) -> None:  # noqa: B027 (a folder has nothing to close)
        """Frees connections."""
