"""The newest of several versions of the same thing."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

ItemT = TypeVar("ItemT")
KeyT = TypeVar("KeyT")


def newest(
    items: Iterable[ItemT], *, key: Callable[[ItemT], KeyT], version: Callable[[ItemT], Any]
) -> dict[KeyT, ItemT]:
    """Return the item with the highest version for each key; of equal versions the first.

    The result is sorted by key, so that two transactions lock the same rows in the same order.
    """
    found: dict[KeyT, ItemT] = {}
    for item in items:
        name = key(item)
        if name not in found or version(found[name]) < version(item):
            found[name] = item
    return dict(sorted(found.items()))
