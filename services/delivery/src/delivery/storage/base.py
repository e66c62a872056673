"""The port to where media lie: the carriers fetch them from there, so their URLs are public."""

from abc import ABC, abstractmethod
from typing import ClassVar

from common.errors import Unavailable


class StorageFault(Unavailable):
    """The media could not be kept. Nothing was promised, the upload can be tried again."""

    default = "The file could not be stored. Try again in a moment."


class Storage(ABC):
    """Keeps files under names that are never used twice."""

    name: ClassVar[str]

    @abstractmethod
    async def put(self, name: str, content: bytes, content_type: str) -> str:
        """Keeps a file and returns the URL from which anyone who has it can fetch it. Raises StorageFault."""

    async def close(self) -> None:  # noqa: B027 (a folder has nothing to close)
        """Frees connections."""
