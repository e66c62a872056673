"""Uploads for MMS, and the links at which providers fetch them."""

from fastapi import Request, Response
from starlette.datastructures import UploadFile
from starlette.types import Message

from common.errors import Invalid, TooLarge, UnsupportedMediaType
from common.http.app import feature_router
from common.http.deps import CallerDep, SessionDep
from common.http.requests import describe_upload
from delivery.media import service
from delivery.media.rules import MAX_BYTES
from delivery.media.schemas import MediaOut

router = feature_router("sending")

_MULTIPART_OVERHEAD = 16 * 1024
_FILE_BODY = describe_upload("image/*")


@router.post("/api/sms/upload-file/", status_code=201, openapi_extra=_FILE_BODY)
async def upload_file(request: Request, caller: CallerDep, session: SessionDep) -> MediaOut:
    """Upload a picture for an MMS. It is a PNG, JPEG or GIF file of at most 409,600 bytes."""
    state = request.app.state
    content = await _read_file(request)
    return await service.store_upload(session, caller, content, storage=state.storage, links=state.links)


@router.api_route("/media/{signature}/{name}", methods=["GET", "HEAD"], include_in_schema=False)
async def get_media(request: Request, signature: str, name: str) -> Response:
    """Return the file of a link. No account is needed: a provider fetches it.

    It is not a redirect to the storage, because not every provider follows redirects.
    """
    state = request.app.state
    content, content_type = await service.read(state.storage, state.links, signature, name)
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return Response(content, media_type=content_type, headers=headers)


async def _read_file(request: Request) -> bytes:
    """Return the field `file` of a multipart body. Reading ends when the body is too long."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise UnsupportedMediaType("Send the file as multipart/form-data.")
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > MAX_BYTES + _MULTIPART_OVERHEAD:
            raise TooLarge(f"A file may have {MAX_BYTES:,} bytes at most.")
        return message

    # The form of a request with an Idempotency-Key has been read already, to compare it with the first request.
    is_read = request.scope.get("keyed_session") is not None
    async with (request if is_read else Request(request.scope, receive)).form() as form:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise Invalid.field("file", "This field is required.")
        return await upload.read(MAX_BYTES + 1)
