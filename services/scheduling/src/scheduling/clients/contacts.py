"""Calls to the internal API of contacts."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from common.caller import Caller
from common.clients import Refused, ServiceClient
from common.errors import NotFound
from common.events import ContactState


class Recipient(BaseModel):
    """The recipient of a message.

    When the request named only a phone, `contact` is the contact that has it. `refused` says why nothing may be sent.
    """

    contact: ContactState | None
    phone: str
    refused: Literal["opted_out", "inactive"] | None


class Group(BaseModel):
    """A group. `eligible_count` counts its members that are active and not opted out."""

    id: int
    name: str
    is_active: bool
    eligible_count: int


class Members(BaseModel):
    """A page of eligible members in the order of their ids. `next` is the `after` of the next page, None at the end."""

    members: list[ContactState]
    next: int | None


@dataclass(frozen=True, slots=True)
class Contacts:
    """The internal API of contacts. Every call raises Unavailable when contacts cannot answer."""

    client: ServiceClient

    async def find_recipient(self, caller: Caller, contact_id: int | None, phone: str | None) -> Recipient:
        """Return the recipient of a message to a contact, to a phone (E.164), or to both. Raises NotFound."""
        body = {"contact_id": contact_id, "phone": phone}
        return Recipient.model_validate(await self._call(caller, "POST", "/internal/recipients/", json=body))

    async def get_contact(self, caller: Caller, contact_id: int) -> ContactState:
        """Return a contact. Raises NotFound."""
        return ContactState.model_validate(await self._call(caller, "GET", f"/internal/contacts/{contact_id}/"))

    async def get_group(self, caller: Caller, group_id: int) -> Group:
        """Return a group, also a deleted one. Raises NotFound."""
        return Group.model_validate(await self._call(caller, "GET", f"/internal/groups/{group_id}/"))

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
