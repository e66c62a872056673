"""Types of fields that several services' schemas share: bounded texts, ids, times (api.md, Conventions)."""

import unicodedata
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainSerializer

MAX_ID = 2**63 - 1
NO_ID = 0  # never given out: what it stands for does not exist


def clean_text(text: str) -> str:
    """Line breaks become LF, tabs a space, other control characters go; then trimmed (api.md, Text)."""
    if text.isprintable():
        return text.strip()
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("Lone surrogates are not allowed.")
    return "".join(c for c in text if c == "\n" or unicodedata.category(c) != "Cc").strip()


def _clean_line(text: str) -> str:
    if "\0" in text:
        raise ValueError("Null characters are not allowed.")
    return clean_text(text)


def _to_id(given: Any) -> Any:
    """A whole number, or its digits. One that no row can have becomes NO_ID, so that it is not found, not refused."""
    if isinstance(given, bool | float):
        raise ValueError("Enter a whole number.")
    if isinstance(given, str):
        if not (given.isascii() and given.isdigit()):
            raise ValueError("Enter a whole number.")
        given = int(given[:20])
    if isinstance(given, int):
        return given if 0 < given <= MAX_ID else NO_ID
    return given


def show_time(moment: datetime) -> str:
    """UTC with `Z`, to the millisecond."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"


def line(max_length: int, *, min_length: int = 0) -> Any:
    """A text field: cleaned, then between the two lengths (in characters)."""

    def bounded(text: str) -> str:
        text = _clean_line(text)
        if len(text) > max_length:
            raise ValueError(f"Ensure this field has no more than {max_length} characters.")
        if len(text) < min_length:
            raise ValueError("This field may not be blank.")
        return text

    return Annotated[str, AfterValidator(bounded), Field(json_schema_extra={"maxLength": max_length})]


Id = Annotated[int, BeforeValidator(_to_id)]
Time = Annotated[datetime, PlainSerializer(show_time, return_type=str, when_used="json")]


class Audit(BaseModel):
    """Who made a row and who changed it last (user ids; null is the system), and when."""

    created_by: int | None
    updated_by: int | None
    created_at: Time
    updated_at: Time
