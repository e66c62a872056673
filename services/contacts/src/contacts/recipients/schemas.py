"""The bodies of the internal routes about recipients."""

from pydantic import BaseModel

from common.events import ContactState
from common.fields import Id
from contacts.contacts.schemas import Phone


class RecipientIn(BaseModel):
    """The recipient of a message: a contact, a phone, or both."""

    contact_id: Id | None = None
    phone: Phone | None = None


class RecipientOut(BaseModel):
    """The contact and the phone of a recipient. `refused` is the reason why the recipient must not be messaged."""

    contact: ContactState | None
    phone: str
    refused: str | None


class EligibleMembers(BaseModel):
    """A page of the members of a group who may be messaged. `next` is the `after` of the next page."""

    members: list[ContactState]
    next: int | None
