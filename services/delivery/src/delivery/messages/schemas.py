"""What scheduling asks about messages, and what it is answered."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class ScheduleRun(BaseModel):
    """One dispatch of a schedule."""

    schedule_id: int
    run: int


class StatesIn(BaseModel):
    """At most 500 at once."""

    schedules: list[ScheduleRun] = Field(max_length=500)


class RunState(ScheduleRun):
    """`event` is there for `sent`, `delivered` and `failed`: the message's event as the bus has it."""

    state: Literal["unknown_here", "open", "sent", "delivered", "failed"]
    event: dict[str, Any] | None = None


class StatesOut(BaseModel):
    """In the order of the question. `intake_lag`: due schedules that were still on the bus before that."""

    states: list[RunState]
    intake_lag: int
