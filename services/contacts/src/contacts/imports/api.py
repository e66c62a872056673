"""The route that imports contacts from a CSV file."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Query, Request, Response
from starlette.datastructures import UploadFile

from common.caller import Caller
from common.errors import Invalid, TooLarge, UnsupportedMediaType
from common.http.app import feature_router
from common.http.deps import CallerDep, TenantDep
from common.http.requests import MAX_FILE_BYTES, describe_upload
from common.statements import Tenant
from contacts.contacts import rules
from contacts.contacts import service as contacts_service
from contacts.errors import ImportRunning
from contacts.imports import service
from contacts.imports.schemas import ImportOptions, ImportOut, ImportProblem
from contacts.imports.turns import ImportTurns

router = feature_router("contacts")
_RETRY_S = 0.2
_FILE_BODY = describe_upload("text/csv")


async def get_import_options(
    dry_run: Annotated[str | None, Query(description="`true`: check the file and write nothing")] = None,
    group_id: Annotated[str | None, Query(description="make the imported contacts members of this group")] = None,
    on_duplicate: Annotated[
        str | None, Query(description="`update`: change contacts that exist; without it their rows fail")
    ] = None,
) -> ImportOptions:
    """Read the query parameters. Raises Invalid under the name of an invalid one."""
    dry_runs = {"": False, "false": False, "0": False, "true": True, "1": True}
    is_dry_run = dry_runs.get((dry_run or "").lower())
    if is_dry_run is None:
        raise Invalid.field("dry_run", "Enter true or false.")
    if on_duplicate not in (None, "", "update"):
        raise Invalid.field("on_duplicate", "Enter `update`, or leave it out.")
    return ImportOptions(
        dry_run=is_dry_run,
        group_id=rules.parse_id_filter("group_id", group_id),
        update_existing=on_duplicate == "update",
    )


@router.post(
    "/api/contacts/import/",
    response_model_exclude_none=True,
    responses={207: {"model": ImportOut, "description": "Some rows were not imported; `errors` says why."}},
    openapi_extra=_FILE_BODY,
)
async def import_contacts(
    request: Request,
    response: Response,
    caller: CallerDep,
    tenant: TenantDep,
    options: Annotated[ImportOptions, Depends(get_import_options)],
) -> ImportOut:
    """Import contacts from a CSV file of at most 10 MB.

    The header row must have a column `phone`; `first_name`, `last_name`, `email` and `company` are optional. Every
    valid row is imported. The answer is 200 when all rows were imported, and 207 when some were not. Imports of an
    organisation run one after the other. The answer is 503 when too many wait.
    """
    turns: ImportTurns = request.app.state.import_turns
    may_wait = "keyed_session" not in request.scope  # a keyed request has a connection already
    async with (
        _uploaded_file(request) as upload,
        turns.turn(caller.organisation_id, may_wait=may_wait) as deadline,
    ):
        while (result := await _try_import(tenant, caller, upload, options)) is None:
            if not may_wait or asyncio.get_running_loop().time() > deadline:
                raise ImportRunning
            await asyncio.sleep(_RETRY_S)
    response.status_code = 207 if result.failed else 200
    return ImportOut(
        total=result.total,
        imported=result.imported,
        updated=result.updated if options.update_existing else None,
        failed=result.failed,
        errors=[ImportProblem.model_validate(problem) for problem in result.problems],
    )


async def _try_import(
    tenant: Tenant, caller: Caller, upload: UploadFile, options: ImportOptions
) -> service.ImportResult | None:
    """Import the file, or return None while another process imports for the organisation."""
    async with tenant.transaction() as session:
        if not await contacts_service.begin_import(session):
            return None
        return await service.import_contacts(session, caller, upload.file, options)


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
