"""The routes of contacts."""

from typing import Annotated

from fastapi import Query
from starlette.convertors import StringConvertor, register_url_convertor

from common.fields import Id
from common.http.app import feature_router
from common.http.deps import CallerDep, PageDep, SessionDep
from common.paging import Paginated, Pagination
from contacts.contacts import rules, service
from contacts.contacts.schemas import ContactCreate, ContactOut, ContactPatch, ContactPut


class _Digits(StringConvertor):
    regex = "[0-9]+"


# Without this, GET /api/contacts/import/ would look for a contact with the id "import" and answer 404 instead of 405.
register_url_convertor("digits", _Digits())

router = feature_router("contacts")


@router.get("/api/contacts/")
async def list_contacts(
    session: SessionDep,
    page: PageDep,
    search: Annotated[str, Query(description="part of a name, or digits of a phone number")] = "",
    exclude_group_id: Annotated[str | None, Query(description="leave out the members of this group")] = None,
) -> Paginated[ContactOut]:
    """List the active contacts, the newest first."""
    excluded = rules.parse_id_filter("exclude_group_id", exclude_group_id)
    rows, total = await service.list_contacts(session, page, search=search, exclude_group_id=excluded)
    return Paginated(results=[ContactOut.model_validate(row) for row in rows], pagination=Pagination.of(page, total))


@router.post("/api/contacts/", status_code=201)
async def create_contact(body: ContactCreate, caller: CallerDep, session: SessionDep) -> ContactOut:
    """Add a contact.

    If a deleted contact has this phone, it is restored with its id and its opt-out. If the number opted out with STOP
    or at the provider, the contact is opted out.
    """
    return ContactOut.model_validate(await service.create_contact(session, caller, body.model_dump(exclude_unset=True)))


@router.get("/api/contacts/{contact_id:digits}/")
async def get_contact(contact_id: Id, session: SessionDep) -> ContactOut:
    """Get a contact, active or deleted."""
    return ContactOut.model_validate(await service.get_contact(session, contact_id))


@router.put("/api/contacts/{contact_id:digits}/")
async def replace_contact(contact_id: Id, body: ContactPut, caller: CallerDep, session: SessionDep) -> ContactOut:
    """Change a contact. Fields that are left out stay as they are."""
    changes = body.model_dump(exclude_unset=True)
    return ContactOut.model_validate(await service.update_contact(session, caller, contact_id, changes))


@router.patch("/api/contacts/{contact_id:digits}/")
async def update_contact(contact_id: Id, body: ContactPatch, caller: CallerDep, session: SessionDep) -> ContactOut:
    """Change some fields of a contact. `is_active: true` restores a deleted contact."""
    changes = body.model_dump(exclude_unset=True)
    return ContactOut.model_validate(await service.update_contact(session, caller, contact_id, changes))


@router.delete("/api/contacts/{contact_id:digits}/", status_code=204)
async def delete_contact(contact_id: Id, caller: CallerDep, session: SessionDep) -> None:
    """Delete a contact softly.

    To restore it, PATCH `is_active: true`, or POST a contact with the same phone.
    """
    await service.delete_contact(session, caller, contact_id)
