"""Contacts over HTTP: api.md, Contacts; and what scheduling asks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.datastructures import UploadFile

from common.errors import Invalid, TooLarge, UnsupportedMediaType
from common.events import ContactState
from common.fields import MAX_ID, NO_ID, Id
from common.http.app import MAX_FILE_BYTES, feature_router
from common.http.deps import CallerDep, PageDep, SessionDep, internal_session
from common.paging import Paginated
from contacts.contacts import service
from contacts.contacts.schemas import (
    ContactCreate,
    ContactOut,
    ContactPatch,
    ContactPut,
    EligibleMembers,
    ImportOptions,
    ImportOut,
    RecipientIn,
    RecipientOut,
)


class _Digits(StringConvertor):
    regex = "[0-9]+"


# So that a wrong method at contacts/import/ is 405 and not a search for the contact "import".
register_url_convertor("digits", _Digits())

router = feature_router("contacts")
ForServices = Annotated[AsyncSession, Depends(internal_session("scheduling", "delivery"), scope="function")]
ForScheduling = Annotated[AsyncSession, Depends(internal_session("scheduling"), scope="function")]
_FILE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "contentMediaType": "text/csv"}},
                }
            }
        },
    }
}


def _id_filter(name: str, given: str | None) -> int | None:
    if not given:
        return None
    if not (given.isascii() and given.isdigit()):
        raise Invalid.field(name, "Enter a whole number.")
    return int(given) if len(given) < 20 and int(given) <= MAX_ID else NO_ID


async def get_import_options(
    dry_run: Annotated[str | None, Query(description="`true`: tell the same, write nothing")] = None,
    group_id: Annotated[str | None, Query(description="every row's contact becomes a member of this group")] = None,
    on_duplicate: Annotated[str | None, Query(description="`update`: change the contact that is there")] = None,
) -> ImportOptions:
    """Raises Invalid under the name of the one that cannot be understood."""
    words = {"": False, "false": False, "0": False, "true": True, "1": True}
    wanted = words.get((dry_run or "").lower())
    if wanted is None:
        raise Invalid.field("dry_run", "Enter true or false.")
    if on_duplicate not in (None, "", "update"):
        raise Invalid.field("on_duplicate", "The only choice is `update`.")
    return ImportOptions(wanted, _id_filter("group_id", group_id), on_duplicate == "update")


@router.get("/api/contacts/")
async def list_contacts(
    session: SessionDep,
    page: PageDep,
    search: Annotated[str, Query(description="part of a name or, in digits, of a phone")] = "",
    exclude_group_id: Annotated[str | None, Query(description="only contacts that are not in this group")] = None,
) -> Paginated[ContactOut]:
    """Active contacts, the newest first."""
    excluded = _id_filter("exclude_group_id", exclude_group_id)
    return await service.list_contacts(session, page, search=search, exclude_group_id=excluded)


@router.post("/api/contacts/", status_code=201)
async def create_contact(body: ContactCreate, caller: CallerDep, session: SessionDep) -> ContactOut:
    """Adds a contact. The phone of a deleted one brings that one back, with its id and its opt-out; one whose number
    answered STOP is opted out."""
    return await service.create_contact(session, caller, body.model_dump(exclude_unset=True))


@router.post(
    "/api/contacts/import/",
    response_model_exclude_none=True,
    responses={207: {"model": ImportOut, "description": "Some rows did not go in"}},
    openapi_extra=_FILE_BODY,
)
async def import_contacts(
    request: Request,
    response: Response,
    caller: CallerDep,
    session: SessionDep,
    options: Annotated[ImportOptions, Depends(get_import_options)],
) -> ImportOut:
    """Takes in a CSV file of contacts: 200 when every row went in, 207 when some did not."""
    async with _uploaded(request) as upload:
        out = await service.import_contacts(session, caller, upload.file, options)
    response.status_code = 207 if out.failed else 200
    return out


@asynccontextmanager
async def _uploaded(request: Request) -> AsyncIterator[UploadFile]:
    """The form's file, on disk when it is large. Raises TooLarge, UnsupportedMediaType, or Invalid under `file`."""
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


@router.get("/api/contacts/{contact_id:digits}/")
async def get_contact(contact_id: Id, session: SessionDep) -> ContactOut:
    """One contact; a deleted one too."""
    return await service.get_contact(session, contact_id)


@router.put("/api/contacts/{contact_id:digits}/")
async def replace_contact(contact_id: Id, body: ContactPut, caller: CallerDep, session: SessionDep) -> ContactOut:
    """Changes a contact; what is left out stays."""
    return await service.update_contact(session, caller, contact_id, body.model_dump(exclude_unset=True))


@router.patch("/api/contacts/{contact_id:digits}/")
async def update_contact(contact_id: Id, body: ContactPatch, caller: CallerDep, session: SessionDep) -> ContactOut:
    """Changes some fields of a contact."""
    return await service.update_contact(session, caller, contact_id, body.model_dump(exclude_unset=True))


@router.delete("/api/contacts/{contact_id:digits}/", status_code=204)
async def delete_contact(contact_id: Id, caller: CallerDep, session: SessionDep) -> None:
    """Deletes a contact softly: PATCH `is_active: true` or its phone in a POST brings it back."""
    await service.delete_contact(session, caller, contact_id)


@router.post("/internal/recipients/", include_in_schema=False)
async def find_recipient(body: RecipientIn, session: ForScheduling) -> RecipientOut:
    """Whom a message is for, and whether it may go there."""
    contact, phone, refused = await service.find_recipient(session, body.contact_id, body.phone)
    return RecipientOut(contact=contact, phone=phone, refused=refused)


@router.get("/internal/contacts/{contact_id:digits}/", include_in_schema=False)
async def get_contact_state(contact_id: Id, session: ForServices) -> ContactState:
    """A contact as others keep it."""
    return await service.get_state(session, contact_id)


@router.get("/internal/groups/{group_id:digits}/members/", include_in_schema=False)
async def list_eligible_members(
    group_id: Id,
    session: ForScheduling,
    after: Annotated[int, Query(ge=0, le=MAX_ID)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
    joined_before: datetime | None = None,
) -> EligibleMembers:
    """A page of a group's members who may be written to, by id."""
    members = await service.list_eligible(session, group_id, after, limit, joined_before)
    return EligibleMembers(members=members, next=members[-1].contact_id if len(members) == limit else None)
