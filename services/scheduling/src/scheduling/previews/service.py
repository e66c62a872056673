"""What a text would cost before it is sent."""

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.errors import Invalid
from scheduling.clients import Neighbours
from scheduling.previews.schemas import PreviewRequest
from scheduling.templates.service import get_template
from scheduling.texts.service import Names, Preview, preview


async def preview_message(
    session: AsyncSession, neighbours: Neighbours, caller: Caller, body: PreviewRequest
) -> Preview:
    """A message or a template as it would go out; without a contact placeholders stand. Raises NotFound, Invalid."""
    names = None
    if body.contact_id is not None:
        contact = await neighbours.contacts.get_contact(caller, body.contact_id)
        names = Names(contact.first_name, contact.last_name, contact.company)
    if body.template_id is not None:
        return preview((await get_template(session, body.template_id)).text, names)
    if body.message is None:
        raise Invalid.field("message", "Give a message or a template_id.")
    return preview(body.message, names)
