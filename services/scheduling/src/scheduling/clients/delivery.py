"""Calls to the internal API of delivery."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel

from common.caller import Caller, system
from common.clients import Refused, ServiceClient
from common.events import Format
from common.fields import show_time
from scheduling.errors import LimitReached, RecipientOptedOut
from scheduling.models import Address, Dispatch


class MessageReport(BaseModel):
    """Delivery's report about one dispatch of a schedule.

    `event` is the MessageSent, MessageDelivered or MessageFailed of the states of the same name.
    """

    schedule_id: int
    dispatch_number: int
    state: Literal["not_found", "open", "sent", "delivered", "failed"]
    event: dict[str, Any] | None = None


class Reports(BaseModel):
    """The reports that were asked for. `intake_lag` counts the ScheduleDue events that delivery has not read yet."""

    states: list[MessageReport]
    intake_lag: int = 0


class Limits(BaseModel):
    """The monthly limits of an organisation. None is no limit."""

    sms_limit: int | None = None
    mms_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """The internal API of delivery. Every call raises Unavailable when delivery cannot answer."""

    client: ServiceClient

    async def reserve(
        self,
        caller: Caller,
        reference: UUID,
        *,
        message_format: Format,
        parts: int,
        scheduled_time: datetime,
        recipient: Address | None = None,
    ) -> None:
        """Reserve parts of the month's limit under a reference. A repeated call reserves nothing more.

        Raises LimitReached, and RecipientOptedOut when the recipient opted out.
        """
        body: dict[str, Any] = {
            "format": message_format,
            "parts": parts,
            "scheduled_time": show_time(scheduled_time),
        }
        if recipient is not None:
            body |= {"phone": recipient.phone, "contact_id": recipient.contact_id}
        try:
            await self.client.call(caller, "PUT", f"/internal/reservations/{reference}/", json=body)
        except Refused as refused:
            if refused.body.get("code") == "opted_out":
                raise RecipientOptedOut from None
            if refused.body.get("code") != "limit_exceeded":
                raise
            usage = {name: refused.body.get(name) for name in ("remaining", "required", "limit")}
            raise LimitReached(
                f"The monthly limit has {usage['remaining']} left and this needs {usage['required']}.", extra=usage
            ) from None

    async def release_reservation(self, organisation_id: str, reference: UUID) -> None:
        """Release what is left of a reservation."""
        await self.client.call(system(organisation_id), "DELETE", f"/internal/reservations/{reference}/")

    async def find_states(self, dispatches: Sequence[Dispatch]) -> Reports:
        """Return what delivery knows about the dispatches, 500 at most."""
        body = {"schedules": [dispatch._asdict() for dispatch in dispatches]}
        return Reports.model_validate(await self.client.call(system(), "POST", "/internal/messages/states/", json=body))

    async def get_limits(self, caller: Caller) -> Limits:
        """Return the monthly limits of the caller's organisation."""
        return Limits.model_validate(await self.client.call(caller, "GET", "/internal/limits/"))
