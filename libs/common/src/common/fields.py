"""Values that several services accept and show: bounded texts, ids, flags, times, zones, queries and bodies."""

import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Annotated, Any
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    WithJsonSchema,
)

from common.errors import Invalid

MAX_ID = 2**63 - 1
NO_ID = 0  # no row has this id
# Spaces, and format characters such as zero-width spaces, soft hyphens and marks of the writing direction.
_INVISIBLE = frozenset(("Cc", "Cf", "Zl", "Zp", "Zs"))
# Characters of other categories that show nothing: joiners, fillers, the blank Braille pattern, variation selectors.
_BLANKS = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)

# The areas of the IANA database: its continents and oceans. Names outside of them are files of a computer (`localtime`,
# `posixrules`), placeholders (`Factory`), fixed offsets (`Etc/GMT+9`, `EST`) or old aliases (`US/Pacific`).
_ZONE_AREAS = frozenset(
    ("Africa", "America", "Antarctica", "Arctic", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")
)


@cache
def place_zones() -> frozenset[str]:
    """Return the names of the time zones of places, for example Australia/Adelaide, and UTC."""
    return frozenset(name for name in available_timezones() if name == "UTC" or name.partition("/")[0] in _ZONE_AREAS)


def clean_text(text: str) -> str:
    """Return the text with LF line breaks, spaces for tabs, no other control characters, and no outer white space.

    Raises ValueError for lone surrogates.
    """
    if text.isprintable():
        return text.strip()
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("Lone surrogates are not allowed.")
    return "".join(c for c in text if c == "\n" or unicodedata.category(c) != "Cc").strip()


def is_blank(text: str) -> bool:
    """Return whether a reader sees nothing of the text: it is empty, or has only spaces and invisible characters."""
    return not any(_is_visible(character) for character in text)


def _is_visible(character: str) -> bool:
    if character.isascii():
        return character.isprintable() and character != " "
    return unicodedata.category(character) not in _INVISIBLE and character not in _BLANKS


def _clean_line(text: str) -> str:
    if "\0" in text:
        raise ValueError("Null characters are not allowed.")
    return clean_text(text)


def _to_id(given: Any) -> Any:
    """Read a whole number or its digits. A number that no row can have becomes NO_ID, which is never found."""
    if isinstance(given, bool | float):
        raise ValueError("Enter a whole number.")
    if isinstance(given, str):
        if not (given.isascii() and given.isdigit()):
            raise ValueError("Enter a whole number.")
        given = int(given[:20])
    if isinstance(given, int):
        return given if 0 < given <= MAX_ID else NO_ID
    return given


@lru_cache(maxsize=50_000)  # a page has 100 times, most of them shown before
def show_time(moment: datetime) -> str:
    """Return the time in UTC with `Z`, to the millisecond."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"


def bounded_text(max_length: int, *, min_length: int = 0) -> Any:
    """Return the type of a text field that is cleaned, then checked against the lengths (in characters)."""

    def check(text: str) -> str:
        text = _clean_line(text)
        if len(text) > max_length:
            raise ValueError(f"Ensure this field has no more than {max_length} characters.")
        if len(text) < min_length or (min_length and is_blank(text)):
            raise ValueError("This field may not be blank.")
        return text

    return Annotated[str, AfterValidator(check), Field(json_schema_extra={"maxLength": max_length})]


Flag = Annotated[bool, Strict()]  # JSON's true and false, and no number or text that may mean one of them
Id = Annotated[int, BeforeValidator(_to_id)]
_DATE_TIME = {"type": "string", "format": "date-time"}
Time = Annotated[
    datetime,
    PlainSerializer(show_time, return_type=str, when_used="json"),
    WithJsonSchema(_DATE_TIME, mode="serialization"),
]

# Query parameters. They are read as texts, so that an empty one counts as absent and an invalid one gets an error of
# ours under its name. The API document has their real types.
QueryNumber = Annotated[str | None, WithJsonSchema({"type": "integer", "minimum": 1})]
QueryFlag = Annotated[str | None, WithJsonSchema({"type": "boolean"})]
QueryDay = Annotated[str | None, WithJsonSchema({"type": "string", "format": "date"})]


def read_flag(name: str, given: str | None) -> bool:
    """Return a boolean of the query, False when absent. Case does not matter. Raises Invalid under its name."""
    text = (given or "").lower()
    if text not in ("", "true", "false", "1", "0"):
        raise Invalid.field(name, "Enter true or false.")
    return text in ("true", "1")


def one_name(*names: str) -> Any:
    """Return the type of a text that is one of these names in the API document. The code checks it by itself."""
    return Annotated[str | None, WithJsonSchema({"type": "string", "enum": list(names)})]


def some_names(*names: str) -> Any:
    """Return the type of a query parameter that lists some of these names, separated by commas or repeated."""
    return Annotated[list[str] | None, WithJsonSchema({"type": "array", "items": names_schema(*names)})]


def names_schema(*names: str) -> dict[str, Any]:
    """Return the schema of a text that is one of these names.

    Upper-case names are an enum of their own, because generators of clients make one constant of `sent` and `SENT`.
    """
    groups = [[n for n in names if not n.isupper()], [n for n in names if n.isupper()]]
    enums = [{"type": "string", "enum": group} for group in groups if group]
    return {"anyOf": enums} if len(enums) > 1 else enums[0]


def read_names(given: Sequence[str] | None) -> frozenset[str]:
    """Return the names of a query parameter that is separated by commas or repeated. Empty ones count as absent."""
    return frozenset(name for text in given or () for part in text.split(",") if (name := part.strip()))


def _remove_defaults(schema: dict[str, Any]) -> None:
    for one in schema.get("properties", {}).values():
        one.pop("default", None)


class RequestBody(BaseModel):
    """A request body, whose schema in the API document has no defaults.

    A generated client demands a field that has a default, and so sends it with a PATCH that should not change it.
    """

    model_config = ConfigDict(json_schema_extra=_remove_defaults)


class Audit(BaseModel):
    """The audit fields: who created and last changed a row (user ids; null is the system), and when."""

    created_by: int | None
    updated_by: int | None
    created_at: Time
    updated_at: Time
