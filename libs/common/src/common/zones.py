"""The names of time zones that an organisation or a query may choose."""

from functools import cache
from zoneinfo import available_timezones

UTC = "UTC"
# The areas of the IANA database: its continents and oceans. Names outside of them are files of a computer (`localtime`,
# `posixrules`), placeholders (`Factory`), fixed offsets (`Etc/GMT+9`, `EST`) or old aliases (`US/Pacific`).
_AREAS = frozenset(
    ("Africa", "America", "Antarctica", "Arctic", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")
)


@cache
def place_zones() -> frozenset[str]:
    """Return the names of the zones of places, for example Australia/Adelaide, and UTC."""
    return frozenset(name for name in available_timezones() if name == UTC or name.partition("/")[0] in _AREAS)
