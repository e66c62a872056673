"""The outbox: an event is a row, inserted in the transaction of its change, before the relay transmits it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common import tracing
from common.bulk import Columns
from common.database import OUTBOX, wake_after_commit
from common.events import Event

_EVENT = Columns(event_id="uuid", topic="text", key="text", body="bytea", request_id="text", traceparent="text")
_ADD = text(
    f"INSERT INTO outbox ({', '.join(_EVENT.names)}) SELECT * FROM {_EVENT.unnest('new')}"  # noqa: S608  # constants
)


def outbox_row(event: Event) -> tuple[Any, ...]:
    """Return the row of an event: event_id, topic, key, body, request_id, traceparent.

    An event outside of a trace, such as that of a schedule that comes due, begins one.
    """
    traceparent = event.traceparent or tracing.start_trace(event.topic, {"organisation_id": event.organisation_id})
    return event.event_id, event.topic, event.key(), event.model_dump_json().encode(), event.request_id, traceparent


async def publish(session: AsyncSession, events: Sequence[Event]) -> None:
    """Add the events to the outbox, in order, in the caller's transaction. The relay transmits them later."""
    if not events:
        return
    await session.execute(_ADD, _EVENT.bind_tuples([outbox_row(event) for event in events]))
    wake_after_commit(session, OUTBOX)
