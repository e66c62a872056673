"""The routes of CSV imports: small files are imported at once, large ones by the worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response
from starlette.datastructures import UploadFile

from common.caller import Caller
from common.errors import Invalid, TooLarge, UnsupportedMediaType
from common.fields import Id, QueryFlag, QueryNumber, read_flag
from common.http.app import feature_router
from common.http.deps import CallerDep, PageDep, SessionDep, TenantDep
from common.http.render import json_response, page_response
from common.http.requests import MAX_FILE_BYTES, describe_upload
from common.paging import Paginated
from common.statements import Tenant
from contacts.contacts import rules
from contacts.contacts import service as contacts_service
from contacts.imports import service
from contacts.imports.schemas import ImportOptions, ImportOut, ImportReport, OnDuplicate, render
from contacts.imports.turns import ImportTurns, NoTurn

router = feature_router("contacts")
_LARGE_BYTES = 2_000_000
_RETRY_S = 0.2
_MAX_NAME = 255
_FILE_BODY = describe_upload("text/csv")
_PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "`respond-async`: answer 202 and import the file afterwards, also a small one",
}
_LOCATION = {"Location": {"description": "path of the import", "schema": {"type": "string"}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {
        "model": ImportOut,
        "description": "The file is imported afterwards. `Location` is the path of the import.",
        "headers": _LOCATION,
    },
    207: {"model": ImportReport, "description": "Some rows were not imported; `errors` says why."},
}


async def get_import_options(
    dry_run: Annotated[QueryFlag, Query(description="`true`: check the file and write no contact")] = None,
    group_id: Annotated[QueryNumber, Query(description="make the imported contacts members of this group")] = None,
    on_duplicate: Annotated[
        OnDuplicate, Query(description="`update`: change contacts that exist; without it their rows fail")
    ] = None,
) -> ImportOptions:
    """Read the query parameters. Raises Invalid under the name of an invalid one."""
    if on_duplicate not in (None, "", "update"):
        raise Invalid.field("on_duplicate", "Enter `update`, or leave it out.")
    return ImportOptions(
        dry_run=read_flag("dry_run", dry_run),
        group_id=rules.parse_id_filter("group_id", group_id),
        update_existing=on_duplicate == "update",
    )


@router.post(
    "/api/contacts/import/",
    response_model=ImportReport,
    responses=_RESPONSES,
    openapi_extra={**_FILE_BODY, "parameters": [_PREFER]},
)
async def import_contacts(
    request: Request,
    caller: CallerDep,
    tenant: TenantDep,
    options: Annotated[ImportOptions, Depends(get_import_options)],
) -> Any:  # not a lean route, because only FastAPI's routes bound the size of a form
    """Import contacts from a CSV file of at most 10 MB.

    The header row must have a column `phone`; `first_name`, `last_name`, `email` and `company` are optional. A column
    `name` is split into first and last name if the file has no column for either. Every valid row is imported.

    The answer is 200 when all rows were imported, and 207 when some were not. It is 202 for a file of more than
    2,000,000 bytes, with `Prefer: respond-async`, and when other imports take too long. Then the file is imported
    afterwards, and `GET` of the path in `Location` says how far the import is.
    """
    async with _uploaded_file(request) as upload:
        await asyncio.to_thread(service.check_header, upload.file)
        is_async = _prefers_async(request)
        if not is_async and (upload.size or 0) <= _LARGE_BYTES:
            report = await _import_now(request, tenant, caller, upload=upload, options=options)
            if report is not None:
                return json_response(report.model_dump(exclude_none=True), 207 if report.failed else 200)
        turns: ImportTurns = request.app.state.import_turns
        async with turns.storing, tenant.transaction() as session:
            content = await asyncio.to_thread(upload.file.read)
            row = await service.queue_import(session, caller, content, options, file_name=_file_name(upload))
    response = json_response(render(row), 202)
    response.headers["Location"] = f"/api/contacts/imports/{row.id}/"
    if is_async:
        response.headers["Preference-Applied"] = "respond-async"
    return response


@router.get("/api/contacts/imports/", response_model=Paginated[ImportOut])
async def list_imports(session: SessionDep, page: PageDep) -> Response:
    """List the imports of the last seven days, the newest first. A report has its first 10 errors.

    An import that is not listed wrote nothing, or its request has not ended yet.
    """
    rows, total = await service.list_imports(session, page)
    return page_response([render(row) for row in rows], page, total)


@router.get("/api/contacts/imports/{import_id:digits}/", response_model=ImportOut)
async def get_import(import_id: Id, session: SessionDep) -> Response:
    """Get the state of an import and, when it is done, its report. It can be read for seven days."""
    return json_response(render(await service.get_import(session, import_id)))


async def _import_now(
    request: Request, tenant: Tenant, caller: Caller, *, upload: UploadFile, options: ImportOptions
) -> ImportReport | None:
    """Import the file, or return None when other imports or the file take too long. Then nothing was written."""
    turns: ImportTurns = request.app.state.import_turns
    is_keyed = "keyed_session" in request.scope  # it has a connection from its first statement on
    now = asyncio.get_running_loop().time
    try:
        async with turns.turn(caller.organisation_id) as wait_until:
            while True:
                async with tenant.transaction() as session:
                    if await contacts_service.begin_import(session):
                        return await service.import_now(
                            session,
                            caller,
                            upload.file,
                            options,
                            file_name=_file_name(upload),
                            deadline=now() + turns.max_import_s,
                        )
                if is_keyed or now() > wait_until:
                    return None
                await asyncio.sleep(_RETRY_S)
    except NoTurn:
        return None


def _file_name(upload: UploadFile) -> str:
    return "".join(filter(str.isprintable, upload.filename or ""))[:_MAX_NAME]


def _prefers_async(request: Request) -> bool:
    """Return whether the request has the preference `respond-async` (RFC 7240)."""
    given = ",".join(request.headers.getlist("prefer"))
    return any(part.partition(";")[0].strip().lower() == "respond-async" for part in given.split(","))


@asynccontextmanager
async def _uploaded_file(request: Request) -> AsyncIterator[UploadFile]:
    """Return the file of the form. A large file is on disk.

    Raises UnsupportedMediaType, TooLarge, and Invalid under `file`.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise UnsupportedMediaType("Send the file as multipart/form-data.")
    async with request.form() as form:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise Invalid.field("file", "This field is required.")
        if not (upload.filename or "").lower().endswith(".csv"):
            raise Invalid.field("file", "Send a file whose name ends in .csv.")
        if (upload.size or 0) > MAX_FILE_BYTES:
            raise TooLarge("A file may have 10 MB at most.")
        yield upload
