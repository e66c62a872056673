"""What contacts must obey, without a database."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from common.errors import Invalid
from common.fields import clean_text

# What others keep of a contact: a change of these raises its version and is told.
PUBLISHED = frozenset({"first_name", "last_name", "phone", "company", "is_active", "opt_out", "opt_in_confirmed_at"})

_WILDCARDS = re.compile(r"([\\%_])")


def opt_out_fields(opted_out: bool, wanted: bool, now: datetime) -> dict[str, Any]:
    """What changes when a person sets `opt_out`: the first time and source of an opt-out are kept."""
    if wanted and not opted_out:
        return {"opt_out": True, "opted_out_at": now, "opt_out_source": "manual", "opt_in_confirmed_at": None}
    if not wanted:
        return {"opt_out": False, "opted_out_at": None, "opt_out_source": None, "opt_out_message_id": None}
    return {}


def opt_out_columns(stop: Any) -> dict[str, Any]:
    """What a contact has whose number opted_out before it came here."""
    return {
        "opt_out": True,
        "opted_out_at": stop.changed_at,
        "opt_out_source": stop.source,
        "opt_out_message_id": stop.message_id,
        "opt_in_confirmed_at": None,
    }


def must_publish(before: Mapping[str, Any], changes: Mapping[str, Any]) -> bool:
    """Whether the changes are such that others must hear of them."""
    return any(name in changes and changes[name] != before[name] for name in PUBLISHED)


def search_patterns(search: str) -> list[str]:
    """LIKE patterns for names in lower case and, when the input is digits, for phones as they are shown."""
    if "\0" in search:
        raise Invalid.field("search", "Null characters are not allowed.")
    try:
        wanted = clean_text(search).lower()
    except ValueError as error:
        raise Invalid.field("search", str(error)) from None
    patterns = [contains(wanted)] if wanted else []
    digits = wanted.replace(" ", "").removeprefix("+")
    if digits.isascii() and digits.isdigit():
        patterns.append(contains(digits))
        if digits.startswith("614"):
            patterns.append(contains("0" + digits[2:]))
    return patterns


def contains(wanted: str) -> str:
    """The LIKE pattern for texts that contain `wanted`, literally."""
    return "%" + _WILDCARDS.sub(r"\\\1", wanted) + "%"
