"""Read request bodies within bounds: strict JSON, and files."""

from typing import Any

from fastapi import Request
from pydantic_core import from_json
from starlette.types import Message, Receive

from common.errors import ParseError, TooLarge, UnsupportedMediaType

MAX_JSON_BYTES = 1_000_000
MAX_FILE_BYTES = 10 * 1024 * 1024
_MULTIPART_OVERHEAD = 65_536


class JsonRequest(Request):
    """A request whose JSON body is bounded and strict: no NaN, no unlimited depth, no lone surrogates."""

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            chunks, size = [], 0
            async for chunk in self.stream():
                size += len(chunk)
                if size > MAX_JSON_BYTES:
                    raise TooLarge(f"A body may have {MAX_JSON_BYTES:,} bytes at most.")
                chunks.append(chunk)
            self._body = b"".join(chunks) or b"{}"  # an empty body then gets an error for each missing field
        return self._body

    async def json(self) -> Any:
        try:
            if not hasattr(self, "_json"):
                self._json = from_json(await self.body(), allow_inf_nan=False)
            return self._json
        except ValueError as error:
            raise ParseError(f"The body is not valid JSON: {error}.") from None


def describe_example(value: dict[str, Any]) -> dict[str, Any]:
    """Return the `openapi_extra` of a route whose JSON body has this example.

    The gateway moves the `scheduled_time` of an example to the next day.
    """
    return {"requestBody": {"content": {"application/json": {"example": value}}}}


def check_json(request: Request) -> None:
    """Raise UnsupportedMediaType when the request says that its body is not JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and kind != "application/json":
        raise UnsupportedMediaType


def bounded_receive(receive: Receive) -> Receive:
    """Return a `receive` that raises TooLarge as soon as the body is larger than the largest file."""
    received = 0

    async def receive_bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_FILE_BYTES + _MULTIPART_OVERHEAD:
            raise TooLarge("A file may have 10 MB at most.")
        return message

    return receive_bounded


def describe_upload(media_type: str) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that reads the file `file` of a multipart form, such as `text/csv`."""
    properties = {"file": {"type": "string", "contentMediaType": media_type}}
    schema = {"type": "object", "required": ["file"], "properties": properties}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
