"""What scheduling asks delivery."""

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
from scheduling.errors import LimitReached


class MessageReport(BaseModel):
    """What became of one run of a schedule; `event` is there for sent (MessageSent), delivered (MessageDelivered) and
    failed (MessageFailed)."""

    schedule_id: int
    run: int
    state: Literal["unknown_here", "open", "sent", "delivered", "failed"]
    event: dict[str, Any] | None = None


class Reports(BaseModel):
    """`intake_lag`: how many ScheduleDue wait to be taken in."""

    states: list[MessageReport]
    intake_lag: int = 0


class Limits(BaseModel):
    """The monthly limits of an organisation; None is no limit."""

    sms_limit: int | None = None
    mms_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """The internal API of delivery. Every call raises Unavailable when delivery cannot answer."""

    client: ServiceClient

    async def put_hold(
        self, caller: Caller, reference: UUID, message_format: Format, units: int, scheduled_time: datetime
    ) -> None:
        """Holds units of the month's limit under the reference, once. Raises LimitReached."""
        body = {"format": message_format, "units": units, "scheduled_time": show_time(scheduled_time)}
        try:
            await self.client.call(caller, "PUT", f"/internal/holds/{reference}/", json=body)
        except Refused as refused:
            if refused.body.get("code") != "limit_exceeded":
                raise
            told = {name: refused.body.get(name) for name in ("remaining", "required", "limit")}
            raise LimitReached(
                f"The monthly limit has {told['remaining']} left and this needs {told['required']}.", extra=told
            ) from None

    async def release_hold(self, organisation_id: str, reference: UUID) -> None:
        """Gives back what is left of a hold."""
        await self.client.call(system(organisation_id), "DELETE", f"/internal/holds/{reference}/")

    async def find_states(self, runs: Sequence[tuple[int, int]]) -> Reports:
        """What became of (schedule, run), at most 500 of them."""
        body = {"schedules": [{"schedule_id": schedule_id, "run": run} for schedule_id, run in runs]}
        return Reports.model_validate(await self.client.call(system(), "POST", "/internal/messages/states/", json=body))

    async def get_limits(self, caller: Caller) -> Limits:
        """The organisation's monthly limits."""
        return Limits.model_validate(await self.client.call(caller, "GET", "/internal/limits/"))
