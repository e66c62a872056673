"""Preview a text before it is sent."""

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.database import tenant_of
from common.errors import Invalid
from scheduling.clients.services import OtherServices
from scheduling.templates.rules import fill
from scheduling.templates.service import get_template
from scheduling.texts.schemas import PreviewRequest


async def preview_message(session: AsyncSession, services: OtherServices, caller: Caller, body: PreviewRequest) -> str:
    """Return a message or a template as it would be sent. Without a contact its placeholders stay.

    Raises NotFound, Invalid.
    """
    fields = None
    if body.contact_id is not None:
        fields = (await services.contacts.get_contact(caller, body.contact_id)).fields
    if body.template_id is not None:
        text = (await get_template(tenant_of(session), body.template_id)).text
    elif body.message is not None:
        text = body.message
    else:
        raise Invalid.field("message", "Give a message or a template_id.")
    return text if fields is None else fill(text, fields)
