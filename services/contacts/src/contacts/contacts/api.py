"""The routes of contacts."""

from typing import Annotated

from fastapi import Query, Response
from starlette.convertors import StringConvertor, register_url_convertor

from common.fields import Id
from common.http.app import feature_router
from common.http.deps import CallerDep, PageDep, SessionDep, TenantDep
from common.http.render import json_response, page_response
from common.paging import Paginated
from contacts.contacts import rules, service
from contacts.contacts.schemas import ContactCreate, ContactOut, ContactPatch, ContactPut, render


class _Digits(StringConvertor):
    regex = "[0-9]+"


# Without this, GET /api/contacts/import/ would look for a contact with the id "import" and answer 404 instead of 405.
register_url_convertor("digits", _Digits())

router = feature_router("contacts")


@router.get("/api/contacts/", response_model=Paginated[ContactOut])
async def list_contacts(
    tenant: TenantDep,
    page: PageDep,
    search: Annotated[str, Query(description="part of a name, or digits of a phone number")] = "",
    exclude_group_id: Annotated[str | None, Query(description="leave out the members of this group")] = None,
) -> Response:
    """List the active contacts, the newest first."""
    excluded = rules.parse_id_filter("exclude_group_id", exclude_group_id)
    rows, total = await service.list_contacts(tenant, page, search=search, exclude_group_id=excluded)
    return page_response([render(row) for row in rows], page, total)


@router.post("/api/contacts/", status_code=201, response_model=ContactOut)
async def create_contact(body: ContactCreate, caller: CallerDep, tenant: TenantDep) -> Response:
    """Add a contact.

    If a deleted contact has this phone, it is restored with its id and its opt-out. If the number opted out with STOP
    or at the provider, the contact is opted out.
    """
    given = body.model_dump(exclude_unset=True)
    row = await service.create_new_contact(tenant, caller, given)
    if row is None:
        async with tenant.transaction() as session:
            row = (await service.create_contact(session, caller, given))._asdict()
    return json_response(render(row), 201)


@router.get("/api/contacts/{contact_id:digits}/", response_model=ContactOut)
async def get_contact(contact_id: Id, tenant: TenantDep) -> Response:
    """Get a contact, active or deleted."""
    return json_response(render(await service.get_contact(tenant, contact_id)))


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
