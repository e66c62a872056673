"""Pages of a list, in the shape that every list of the API has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel

DEFAULT_LIMIT = 50
MAX_LIMIT = 50

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """The requested part of a list. `number` counts from 1."""

    number: int = 1
    limit: int = DEFAULT_LIMIT

    @property
    def offset(self) -> int:
        return (self.number - 1) * self.limit


class Pagination(BaseModel):
    """The position of a page in its list. The names are camelCase by contract."""

    total: int
    page: int
    limit: int
    totalPages: int  # noqa: N815
    hasNext: bool  # noqa: N815
    hasPrev: bool  # noqa: N815

    @classmethod
    def of(cls, page: Page, total: int) -> "Pagination":
        pages = -(-total // page.limit)
        return cls(
            total=total,
            page=page.number,
            limit=page.limit,
            totalPages=pages,
            hasNext=page.number < pages,
            hasPrev=page.number > 1 and total > 0,
        )


class Paginated(BaseModel, Generic[T]):
    """`{"results": [...], "pagination": {...}}`."""

    results: Sequence[T]
    pagination: Pagination
