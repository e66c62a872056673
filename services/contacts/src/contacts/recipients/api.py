"""The internal routes about recipients, for scheduling and delivery."""

from datetime import datetime
from typing import Annotated

from fastapi import Depends, Query
from sqlalchemy.ext.asyncio import AsyncSession

from common.events import ContactState
from common.fields import MAX_ID, Id
from common.http.app import feature_router
from common.http.deps import internal_session
from contacts.contacts.rules import contact_state
from contacts.recipients import service
from contacts.recipients.schemas import EligibleMembers, RecipientIn, RecipientOut

router = feature_router("contacts")
FromScheduling = Annotated[AsyncSession, Depends(internal_session("scheduling"), scope="function")]
FromSchedulingOrDelivery = Annotated[
    AsyncSession, Depends(internal_session("scheduling", "delivery"), scope="function")
]


@router.post("/internal/recipients/", include_in_schema=False)
async def find_recipient(body: RecipientIn, session: FromScheduling) -> RecipientOut:
    """Return the contact and the phone of a recipient, and whether the recipient may be messaged."""
    recipient = await service.find_recipient(session, body.contact_id, body.phone)
    return RecipientOut(
        contact=contact_state(recipient.contact) if recipient.contact else None,
        phone=recipient.phone,
        refused=recipient.refusal,
    )


@router.get("/internal/contacts/{contact_id}/", include_in_schema=False)
async def get_contact(contact_id: Id, session: FromSchedulingOrDelivery) -> ContactState:
    """Return a contact, active or deleted."""
    return contact_state(await service.get_contact(session, contact_id))


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
    return EligibleMembers(
        members=[contact_state(member) for member in members],
        next=members[-1].id if len(members) == limit else None,
    )
