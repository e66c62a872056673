"""The route by which contacts saves an opt-out before it answers its request."""

from typing import Annotated

from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.events import ContactState
from common.http.app import feature_router
from common.http.deps import internal_caller, internal_session
from delivery.opt_outs import service

router = feature_router("opt-outs")


@router.put("/internal/contacts/", status_code=204, include_in_schema=False)
async def save_contact(
    caller: Annotated[Caller, Depends(internal_caller("contacts"))],
    session: Annotated[AsyncSession, Depends(internal_session("contacts"), scope="function")],
    body: ContactState,
) -> None:
    """Save the opt-out of a contact, as its ContactChanged would."""
    await service.save_contacts(session, [(caller.organisation_id, body)])
