"""`/api/messages/`, and a contact's messages."""

from typing import Annotated

from fastapi import Depends, Query, Request

from common.fields import Id
from common.http.app import feature_router
from common.http.deps import CallerDep, PageDep, SessionDep
from common.paging import Paginated
from delivery.clients.contacts import get_contact
from delivery.conversations import service
from delivery.conversations.schemas import (
    Filters,
    MessageOut,
    read_day,
    read_direction,
    read_phone,
    read_statuses,
)

router = feature_router("messages")


async def get_filters(
    phone: Annotated[str | None, Query(description="an Australian mobile in any usual form")] = None,
    status: Annotated[
        str | None, Query(description="a list by commas of processing, sent, delivered, failed, received")
    ] = None,
    direction: Annotated[str | None, Query(description="outbound or inbound")] = None,
    date_from: Annotated[str | None, Query(description="first day, inclusive, in the organisation's zone")] = None,
    date_to: Annotated[str | None, Query(description="last day, inclusive, in the organisation's zone")] = None,
) -> Filters:
    return Filters(
        phone=read_phone(phone),
        statuses=read_statuses(status),
        direction=read_direction(direction),
        first=read_day("date_from", date_from),
        last=read_day("date_to", date_to),
    )


@router.get("/api/messages/")
async def list_messages(
    caller: CallerDep, session: SessionDep, filters: Annotated[Filters, Depends(get_filters)], page: PageDep
) -> Paginated[MessageOut]:
    """Messages that went out and came in, those of batches too, the newest first."""
    return await service.page_messages(session, caller.organisation_id, filters, page)


@router.get("/api/contacts/{contact_id}/messages/")
async def list_messages_of_contact(
    request: Request, caller: CallerDep, session: SessionDep, contact_id: Id, page: PageDep
) -> Paginated[MessageOut]:
    """Messages to and from a contact, the newest first: its own, and those of the phone that it has now."""
    contact = await get_contact(request.app.state.contacts, caller, contact_id)
    filters = Filters(contact=contact_id, phone=contact.phone)
    return await service.page_messages(session, caller.organisation_id, filters, page)
