"""The route by which contacts saves a deletion before it answers its request."""

from typing import Annotated

from fastapi import Depends

from common.caller import Caller
from common.events import ContactState
from common.http.app import feature_router
from common.http.deps import AllSessionDep, internal_caller
from scheduling.recipients import service

router = feature_router("recipients")


@router.put("/internal/contacts/", status_code=204, include_in_schema=False)
async def save_contact(
    caller: Annotated[Caller, Depends(internal_caller("contacts"))], session: AllSessionDep, body: ContactState
) -> None:
    """Save a contact and bring its pending schedules to it, as its ContactChanged would."""
    await service.apply_contacts(session, [(caller.organisation_id, body)])
