"""An event is a row before it is a message: it is written in the transaction of the change it tells of."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.events import Event

_INSERT = text(
    """
    INSERT INTO outbox (event_id, topic, key, body, request_id)
    SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:topics AS text[]), CAST(:keys AS text[]),
                         CAST(:bodies AS bytea[]), CAST(:request_ids AS text[]))
    ON CONFLICT (event_id) DO NOTHING
    """
)


async def publish(session: AsyncSession, events: Sequence[Event]) -> None:
    """Adds the events' rows, in order, to the caller's transaction; the relay does the rest after its commit."""
    if not events:
        return
    await session.execute(
        _INSERT,
        {
            "ids": [event.event_id for event in events],
            "topics": [event.topic for event in events],
            "keys": [event.key() for event in events],
            "bodies": [event.model_dump_json().encode() for event in events],
            "request_ids": [event.request_id for event in events],
        },
    )
    session.info["has_events"] = True
