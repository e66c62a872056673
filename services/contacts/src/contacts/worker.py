"""The Kafka roof: nothing is consumed yet, the relay publishes what the api process wrote."""

from common.bus import make_broker
from common.database import Database
from common.worker import Worker
from contacts.settings import Settings


async def create_worker(settings: Settings) -> Worker:
    """The worker process."""
    database = Database(settings.database_url.get_secret_value(), "contacts worker", tenant_pool=1)
    return Worker(settings=settings, database=database, broker=make_broker(settings), loops=[])
