"""Calls to the internal API of delivery."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel

from common.caller import Caller, system
from common.clients import ServiceClient
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


@dataclass(frozen=True, slots=True)
class ReservationRequest:
    """The parts that a send needs. A send to a group has no recipient."""

    reference: UUID
    format: Format
    parts: int
    scheduled_time: datetime
    recipient: Address | None = None

    def body(self) -> dict[str, Any]:
        """Return the request as JSON."""
        return {
            "reference": str(self.reference),
            "format": self.format,
            "parts": self.parts,
            "scheduled_time": show_time(self.scheduled_time),
            "phone": self.recipient and self.recipient.phone,
            "contact_id": self.recipient and self.recipient.contact_id,
        }


class ReservationAnswer(BaseModel):
    """Delivery's answer to one reservation. `code` says why the parts are not reserved."""

    code: Literal["opted_out", "limit_exceeded"] | None = None
    remaining: int | None = None
    limit: int | None = None

    def error(self, required: int) -> LimitReached | RecipientOptedOut | None:
        """Return the error for the client whose send needed these parts."""
        if self.code == "opted_out":
            return RecipientOptedOut()
        if self.code is None:
            return None
        usage = {"remaining": self.remaining, "required": required, "limit": self.limit}
        return LimitReached(f"The monthly limit has {self.remaining} left and this needs {required}.", extra=usage)


class ReservationAnswers(BaseModel):
    """Delivery's answers, in the order of the requests."""

    reservations: list[ReservationAnswer]


class Limits(BaseModel):
    """The monthly limits of an organisation. None is no limit."""

    sms_limit: int | None = None
    mms_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """The internal API of delivery. Every call raises Unavailable when delivery cannot answer."""

    client: ServiceClient

    async def reserve(
        self, caller: Caller, wanted: Sequence[ReservationRequest]
    ) -> list[LimitReached | RecipientOptedOut | None]:
        """Reserve parts of the organisation's limits, each under its reference. Return why one is refused, or None.

        A repeated call reserves nothing more.
        """
        body = {"reservations": [one.body() for one in wanted]}
        answer = ReservationAnswers.model_validate(
            await self.client.call(caller, "POST", "/internal/reservations/", json=body)
        )
        return [result.error(one.parts) for one, result in zip(wanted, answer.reservations, strict=True)]

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
