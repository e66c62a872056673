"""Read what a browser sends, within bounds."""

from collections.abc import Sequence
from urllib.parse import parse_qsl

from starlette.requests import Request

from common.errors import Invalid, TooLarge, UnsupportedMediaType

MAX_FORM_BYTES = 65_536
MAX_FIELD_CHARS = 500
MAX_TOKEN_CHARS = 16_384
_MAX_FIELDS = 30
_FORM = "application/x-www-form-urlencoded"


class Fields:
    """The fields of a form or a query, each once. White space around a value is removed."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Check names and values. Raises Invalid with the name of the field."""
        if len(pairs) > _MAX_FIELDS:
            raise Invalid(f"A form has {_MAX_FIELDS} fields at most.")
        self._values: dict[str, str] = {}
        for name, value in pairs:
            if name in self._values:
                raise Invalid(f"The field {name[:40]} may be sent only once.")
            longest = MAX_TOKEN_CHARS if name == "token" else MAX_FIELD_CHARS
            if len(value) > longest:
                raise Invalid(f"The field {name[:40]} may have {longest} characters at most.")
            if "\0" in value or any(0xD800 <= ord(character) <= 0xDFFF for character in value):
                raise Invalid(f"The field {name[:40]} has a character that is not allowed.")
            self._values[name] = value.strip()

    def get(self, name: str) -> str:
        """Return a value, empty when it was not sent."""
        return self._values.get(name, "")


def read_query(request: Request) -> Fields:
    """Return the fields of a query."""
    return Fields(request.query_params.multi_items())


async def read_form(request: Request) -> Fields:
    """Return the fields of a form. Raises TooLarge, Invalid and UnsupportedMediaType."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise UnsupportedMediaType(f"A form is sent as {_FORM}.")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_FORM_BYTES:
            raise TooLarge(f"A form may have {MAX_FORM_BYTES:,} bytes at most.")
        chunks.append(chunk)
    try:
        return Fields(parse_qsl(b"".join(chunks).decode(), True, max_num_fields=_MAX_FIELDS, errors="strict"))
    except ValueError:  # also for bytes that are not UTF-8
        raise Invalid("The form cannot be read.") from None
