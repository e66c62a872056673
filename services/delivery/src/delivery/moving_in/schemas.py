"""Rows of an earlier system as delivery imports them."""

from typing import NamedTuple


class ConfigIn(NamedTuple):
    """A config of an earlier system."""

    old_id: int
    organisation_id: str
    name: str
    value: str
