"""The bodies of the internal routes about recipients."""

from pydantic import BaseModel, Field

from common.events import ContactState
from common.fields import Id
from contacts.contacts.schemas import Phone
from contacts.groups.schemas import GroupState


class RecipientIn(BaseModel):
    """The recipient of a message: a contact, a phone, or both."""

    contact_id: Id | None = None
    phone: Phone | None = None


class RecipientsIn(BaseModel):
    """Recipients of messages of one organisation."""

    recipients: list[RecipientIn] = Field(min_length=1, max_length=100)


class RecipientOut(BaseModel):
    """The contact and the phone of a recipient. `refused` is the reason why the recipient must not be messaged.

    A contact that does not exist is refused as `not_found`.
    """

    contact: ContactState | None
    phone: str
    refused: str | None


class RecipientsOut(BaseModel):
    """The recipients in the order in which they were asked for."""

    recipients: list[RecipientOut]


class EligibleMembers(BaseModel):
    """A page of the members of a group who may be messaged. `next` is the `after` of the next page."""

    members: list[ContactState]
    next: int | None


class AudienceOut(EligibleMembers):
    """A group, the number of its members who may be messaged, and the first page of them, read in one snapshot."""

    group: GroupState
    eligible_count: int
