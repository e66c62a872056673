"""The routes of contacts."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Query, Request, Response
from starlette.convertors import StringConvertor, register_url_convertor

from common.caller import Caller
from common.fields import Id, QueryNumber
from common.http.app import feature_router
from common.http.deps import CallerDep, PageDep, TenantDep
from common.http.render import json_response, page_response
from common.http.requests import describe_example
from common.paging import Paginated
from common.statements import Tenant
from contacts.clients.deps import ServicesDep
from contacts.clients.services import OtherServices
from contacts.contacts import rules, service
from contacts.contacts.schemas import ContactCreate, ContactOut, ContactPatch, ContactPut, render
from contacts.models import ContactRow


class _Digits(StringConvertor):
    regex = "[0-9]+"


# Without this, GET /api/contacts/import/ would look for a contact with the id "import" and answer 404 instead of 405.
register_url_convertor("digits", _Digits())

router = feature_router("contacts")
_ONE = "/api/contacts/{contact_id:digits}/"
_EXAMPLE = {"phone": "0491 570 006", "first_name": "Ana", "last_name": "Silva"}


@router.get("/api/contacts/", response_model=Paginated[ContactOut])
async def list_contacts(
    tenant: TenantDep,
    page: PageDep,
    search: Annotated[str, Query(description="part of a name, or digits of a phone number")] = "",
    exclude_group_id: Annotated[QueryNumber, Query(description="leave out the members of this group")] = None,
) -> Response:
    """Find contacts. The newest is first, and deleted ones are left out."""
    excluded = rules.parse_id_filter("exclude_group_id", exclude_group_id)
    rows, total = await service.list_contacts(tenant, page, search=search, exclude_group_id=excluded)
    return page_response([render(row) for row in rows], page, total)


@router.post("/api/contacts/", status_code=201, response_model=ContactOut, openapi_extra=describe_example(_EXAMPLE))
async def create_contact(
    request: Request, body: ContactCreate, caller: CallerDep, tenant: TenantDep, services: ServicesDep
) -> Response:
    """Add a contact.

    If a deleted contact has this phone, it is restored with its id and its opt-out. If the number opted out with STOP
    or at the provider, the contact is opted out.
    """
    given = body.model_dump(exclude_unset=True)
    row = await service.create_new_contact(tenant, caller, request.app.state.new_contacts, given)
    if row is None:
        async with tenant.transaction() as session:
            contact = await service.create_contact(session, caller, given)
        await _confirm(services, caller, contact, given)
        row = contact._asdict()
    return json_response(render(row), 201)


@router.get(_ONE, response_model=ContactOut)
async def get_contact(contact_id: Id, tenant: TenantDep) -> Response:
    """Look at a contact. Deleted ones can be read, too."""
    return json_response(render(await service.get_contact(tenant, contact_id)))


@router.put(_ONE, response_model=ContactOut, openapi_extra=describe_example(_EXAMPLE))
async def replace_contact(
    contact_id: Id, body: ContactPut, caller: CallerDep, tenant: TenantDep, services: ServicesDep
) -> Response:
    """Replace a contact. Fields that are left out stay as they are.

    An opt-out or a deletion is in force when it is answered. A 503 says that it is saved but not confirmed: send the
    request again.
    """
    changes = body.model_dump(exclude_unset=True)
    return await _update(tenant, services, caller, contact_id=contact_id, changes=changes)


@router.patch(_ONE, response_model=ContactOut, openapi_extra=describe_example({"company": "Pigeon Post"}))
async def update_contact(
    contact_id: Id, body: ContactPatch, caller: CallerDep, tenant: TenantDep, services: ServicesDep
) -> Response:
    """Change some fields of a contact. `is_active: true` restores a deleted contact.

    An opt-out or a deletion is in force when it is answered. A 503 says that it is saved but not confirmed: send the
    request again.
    """
    changes = body.model_dump(exclude_unset=True)
    return await _update(tenant, services, caller, contact_id=contact_id, changes=changes)


async def _update(
    tenant: Tenant, services: OtherServices, caller: Caller, *, contact_id: int, changes: Mapping[str, Any]
) -> Response:
    async with tenant.transaction() as session:
        contact = await service.update_contact(session, caller, contact_id, changes)
    await _confirm(services, caller, contact, changes)
    return json_response(render(contact._asdict()))


@router.delete(_ONE, status_code=204, response_class=Response)
async def delete_contact(contact_id: Id, caller: CallerDep, tenant: TenantDep, services: ServicesDep) -> Response:
    """Delete a contact. Its pending schedules are cancelled when the answer leaves.

    To restore it, PATCH `is_active: true`, or POST a contact with the same phone.
    """
    async with tenant.transaction() as session:
        contact = await service.delete_contact(session, caller, contact_id)
    await _confirm(services, caller, contact, {})
    return Response(status_code=204)


async def _confirm(services: OtherServices, caller: Caller, contact: ContactRow, given: Mapping[str, Any]) -> None:
    """Save what must be in force when the request is answered: an opt-out at delivery, a deletion at scheduling.

    The contact is committed before, so no connection is held meanwhile and both services also receive its
    ContactChanged. A request that is sent again after a 503 saves the same state again. A POST with an idempotency key
    is the exception: its transaction ends after the answer, so a 503 undoes the contact. Raises Unavailable.
    """
    if contact.opt_out or "opt_out" in given:
        await services.save_opt_out(caller, rules.contact_state(contact))
    if not contact.is_active:
        await services.save_deletion(caller, rules.contact_state(contact))
