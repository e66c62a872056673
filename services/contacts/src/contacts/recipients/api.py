"""The internal routes about recipients, for scheduling and delivery."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Query, Response
from sqlalchemy.ext.asyncio import AsyncSession

from common.events import ContactState
from common.fields import MAX_ID, Id
from common.http.app import feature_router
from common.http.deps import internal_session, internal_tenant
from common.http.render import json_response
from common.statements import Tenant
from contacts.contacts.rules import contact_state
from contacts.groups.schemas import GroupState
from contacts.models import ContactRow
from contacts.recipients import service
from contacts.recipients.rules import Recipient
from contacts.recipients.schemas import AudienceOut, EligibleMembers, RecipientsIn, RecipientsOut

router = feature_router("contacts")
FromScheduling = Annotated[AsyncSession, Depends(internal_session("scheduling"), scope="function")]
SchedulingTenant = Annotated[Tenant, Depends(internal_tenant("scheduling"))]
SchedulingOrDeliveryTenant = Annotated[Tenant, Depends(internal_tenant("scheduling", "delivery"))]


@router.post("/internal/recipients/", response_model=RecipientsOut, include_in_schema=False)
async def find_recipients(body: RecipientsIn, tenant: SchedulingTenant) -> Response:
    """Return the contact and the phone of each recipient, and whether the recipient may be messaged."""
    found = await service.find_recipients(tenant, [(one.contact_id, one.phone) for one in body.recipients])
    return json_response({"recipients": [_render(recipient) for recipient in found]})


def _render(recipient: Recipient) -> dict[str, Any]:
    contact = contact_state(recipient.contact).model_dump(mode="json") if recipient.contact else None
    return {"contact": contact, "phone": recipient.phone, "refused": recipient.refusal}


@router.get("/internal/contacts/{contact_id}/", response_model=ContactState, include_in_schema=False)
async def get_contact(contact_id: Id, tenant: SchedulingOrDeliveryTenant) -> Response:
    """Return a contact, active or deleted."""
    return json_response(contact_state(await service.get_contact(tenant, contact_id)).model_dump(mode="json"))


@router.get("/internal/groups/{group_id}/audience/", include_in_schema=False)
async def read_audience(
    group_id: Id, tenant: SchedulingTenant, limit: Annotated[int, Query(ge=1, le=1000)] = 50
) -> AudienceOut:
    """Return a group, active or deleted, the number of its eligible members, and the first `limit` of them by id."""
    audience = await service.read_audience(tenant, group_id, limit)
    group = GroupState.model_validate(audience.group)
    page = _page(audience.members, limit)
    return AudienceOut(group=group, eligible_count=audience.eligible_count, members=page.members, next=page.next)


@router.get("/internal/groups/{group_id}/members/", include_in_schema=False)
async def list_eligible_members(
    group_id: Id,
    session: FromScheduling,
    after: Annotated[int, Query(ge=0, le=MAX_ID)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
    joined_before: datetime | None = None,
) -> EligibleMembers:
    """Return a page of the members of a group who may be messaged, by id."""
    members = await service.list_eligible_members(
        session, group_id, after=after, limit=limit, joined_before=joined_before
    )
    return _page(members, limit)


def _page(members: Sequence[ContactRow], limit: int) -> EligibleMembers:
    return EligibleMembers(
        members=[contact_state(member) for member in members],
        next=members[-1].id if len(members) == limit else None,
    )
