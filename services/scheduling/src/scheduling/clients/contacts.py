"""Calls to the internal API of contacts."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from pydantic import BaseModel

from common.caller import Caller
from common.clients import Refused, ServiceClient
from common.combining import Combiner
from common.errors import NotFound
from common.events import ContactState


class Recipient(BaseModel):
    """The recipient of a message.

    When the request named only a phone, `contact` is the contact that has it. `refused` says why nothing may be sent.
    """

    contact: ContactState | None
    phone: str
    refused: Literal["opted_out", "inactive", "not_found"] | None


class Recipients(BaseModel):
    """The recipients that were asked for, in order."""

    recipients: list[Recipient]


class RecipientQuestion(NamedTuple):
    """A recipient to find: a contact, a phone, or a contact at another phone."""

    caller: Caller
    contact_id: int | None
    phone: str | None


class Group(BaseModel):
    """A group, active or deleted."""

    id: int
    name: str
    is_active: bool


class Members(BaseModel):
    """A page of eligible members in the order of their ids. `next` is the `after` of the next page, None at the end."""

    members: list[ContactState]
    next: int | None


class Audience(Members):
    """The group that a batch goes to and the first page of its members, read in one snapshot.

    `eligible_count` counts the members that are active and not opted out.
    """

    group: Group
    eligible_count: int


class Contacts:
    """The internal API of contacts. Every call raises Unavailable when contacts cannot answer."""

    def __init__(self, client: ServiceClient) -> None:
        self.client = client
        self._questions = Combiner(self._find_recipients)

    async def find_recipient(self, caller: Caller, contact_id: int | None, phone: str | None) -> Recipient:
        """Return the recipient of a message to a contact, to a phone (E.164), or to both. Raises NotFound.

        Questions of one organisation that arrive together share a call.
        """
        return await self._questions.run(caller.organisation_id, RecipientQuestion(caller, contact_id, phone))

    async def _find_recipients(self, questions: Sequence[RecipientQuestion]) -> list[Recipient | Exception]:
        body = {"recipients": [{"contact_id": one.contact_id, "phone": one.phone} for one in questions]}
        answer = await self._call(questions[0].caller, "POST", "/internal/recipients/", json=body)
        found = Recipients.model_validate(answer).recipients
        return [NotFound() if recipient.refused == "not_found" else recipient for recipient in found]

    async def get_contact(self, caller: Caller, contact_id: int) -> ContactState:
        """Return a contact. Raises NotFound."""
        return ContactState.model_validate(await self._call(caller, "GET", f"/internal/contacts/{contact_id}/"))

    async def get_group(self, caller: Caller, group_id: int) -> Group:
        """Return a group, also a deleted one. Raises NotFound."""
        return Group.model_validate(await self._call(caller, "GET", f"/internal/groups/{group_id}/"))

    async def read_audience(self, caller: Caller, group_id: int, limit: int) -> Audience:
        """Return a group, also a deleted one, with the first of its eligible members. Raises NotFound."""
        path = f"/internal/groups/{group_id}/audience/"
        return Audience.model_validate(await self._call(caller, "GET", path, params={"limit": str(limit)}))

    async def page_members(
        self, caller: Caller, group_id: int, after: int, limit: int, joined_before: datetime | None = None
    ) -> Members:
        """Return members with ids above `after` that were in the group by `joined_before`. Raises NotFound."""
        params = {"after": str(after), "limit": str(limit)}
        if joined_before is not None:
            params["joined_before"] = joined_before.isoformat()
        path = f"/internal/groups/{group_id}/members/"
        return Members.model_validate(await self._call(caller, "GET", path, params=params))

    async def _call(
        self, caller: Caller, method: str, path: str, *, json: object = None, params: object = None
    ) -> object:
        try:
            return await self.client.call(caller, method, path, json=json, params=params)
        except Refused as refused:
            if refused.status == 404:
                raise NotFound from None
            raise
