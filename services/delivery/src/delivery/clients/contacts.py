"""Calls to contacts' internal API."""

from common.caller import Caller
from common.clients import Refused, ServiceClient
from common.errors import NotFound
from common.events import ContactState


async def get_contact(client: ServiceClient, caller: Caller, contact_id: int) -> ContactState:
    """Return a contact of the caller's organisation, active or not. Raises NotFound and Unavailable."""
    try:
        answer = await client.call(caller, "GET", f"/internal/contacts/{contact_id}/")
    except Refused as refused:
        if refused.status == 404:
            raise NotFound from None
        raise
    return ContactState.model_validate(answer)
