"""The Kafka roof of contacts."""

from functools import partial

from common.bus import make_broker, subscribe
from common.database import Database
from common.events import StopChanged
from common.loops import Loop
from common.worker import Worker
from contacts.contacts.consumers import on_stop_changed
from contacts.contacts.loops import settle_stops
from contacts.settings import Settings


async def create_worker(settings: Settings) -> Worker:
    """Consumers and loops of contacts."""
    database = Database(settings.database_url.get_secret_value(), "contacts worker", tenant_pool=1)
    broker = make_broker(settings)
    subscribe(broker, settings, [StopChanged], "stops", partial(on_stop_changed, database))
    return Worker(
        settings=settings,
        database=database,
        broker=broker,
        loops=[Loop("settle stops", partial(settle_stops, database), 1.0)],
    )
