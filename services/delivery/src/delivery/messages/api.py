"""The list of messages, a contact's messages, and the states that scheduling asks for."""

from typing import Annotated

from fastapi import Depends, Query, Request
from sqlalchemy.ext.asyncio import AsyncSession

from common.fields import Id, QueryDay, read_names
from common.http.app import feature_router
from common.http.deps import CallerDep, PageDep, SessionDep, internal_session
from common.paging import Page, Paginated, Pagination
from common.phones import show_phone
from delivery.clients.bus import intake_lag
from delivery.clients.contacts import get_contact
from delivery.messages import service
from delivery.messages.rules import count_parts, public_status
from delivery.messages.schemas import (
    DirectionName,
    Filters,
    MessageOut,
    StatesIn,
    StatesOut,
    Statuses,
    read_day,
    read_direction,
    read_phone,
    read_statuses,
)
from delivery.models import ListedMessage

router = feature_router("messages")

SchedulingSession = Annotated[AsyncSession, Depends(internal_session("scheduling"), scope="function")]


async def get_filters(
    phone: Annotated[str | None, Query(description="an Australian mobile in any usual form")] = None,
    status: Annotated[Statuses, Query(description="messages with one of these statuses; by default all")] = None,
    direction: Annotated[DirectionName, Query(description="outbound or inbound messages; by default both")] = None,
    date_from: Annotated[QueryDay, Query(description="first day, inclusive, in the organisation's time zone")] = None,
    date_to: Annotated[QueryDay, Query(description="last day, inclusive, in the organisation's time zone")] = None,
) -> Filters:
    """Read the filters of the list. Raises Invalid under the name of the invalid one."""
    return Filters(
        phone=read_phone(phone),
        statuses=read_statuses(read_names(status)),
        direction=read_direction(direction),
        first=read_day("date_from", date_from),
        last=read_day("date_to", date_to),
    )


@router.get("/api/messages/")
async def list_messages(
    caller: CallerDep, session: SessionDep, filters: Annotated[Filters, Depends(get_filters)], page: PageDep
) -> Paginated[MessageOut]:
    """Read the messages that were sent and received. The newest is first."""
    return _render(*await service.page_messages(session, caller.organisation_id, filters, page), page)


@router.get("/api/contacts/{contact_id}/messages/")
async def list_messages_of_contact(
    request: Request, caller: CallerDep, session: SessionDep, contact_id: Id, page: PageDep
) -> Paginated[MessageOut]:
    """Read the conversation with a contact. It has its own messages and those of its phone. The newest is first."""
    contact = await get_contact(request.app.state.contacts, caller, contact_id)
    filters = Filters(contact=contact_id, phone=contact.phone)
    return _render(*await service.page_messages(session, caller.organisation_id, filters, page), page)


def _render(rows: list[ListedMessage], total: int, page: Page) -> Paginated[MessageOut]:
    results = [
        MessageOut.model_validate(
            {
                "id": row.id,
                "direction": row.direction,
                "text": row.text,
                "phone": show_phone(row.phone),
                "time": row.time,
                "status": public_status(row.status),
                "schedule": row.schedule_id,
                "contact": row.contact_id,
                "format": row.format,
                "subject": row.subject,
                "media_urls": row.media_urls,
                "parts": row.parts or count_parts(row.format, row.text),
                "provider": row.provider,
                "failure_category": row.failure_category,
                "error": row.error,
            }
        )
        for row in rows
    ]
    return Paginated(results=results, pagination=Pagination.of(page, total))


@router.post("/internal/messages/states/", include_in_schema=False)
async def get_states(request: Request, session: SchedulingSession, body: StatesIn) -> StatesOut:
    """Return the states of dispatches, and the intake lag."""
    # The lag is read first. A dispatch that is not found after a lag of 0 never reached delivery.
    settings = request.app.state.settings
    lag = await intake_lag(settings.kafka_bootstrap_servers, settings.kafka_tls)
    return StatesOut(states=await service.states(session, body.schedules), intake_lag=lag)
