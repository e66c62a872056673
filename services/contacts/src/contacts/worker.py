"""The Kafka entry point: the consumers and loops of this service."""

from functools import partial

from common.bus import make_bus
from common.database import Database
from common.events import OptOutChanged
from common.loops import Loop
from common.worker import Worker
from contacts.contacts.consumers import on_opt_out_changed
from contacts.contacts.loops import apply_opt_outs, clean_search_index
from contacts.contacts.service import SEARCH_INDEX
from contacts.settings import Settings


async def create_worker(settings: Settings) -> Worker:
    """Return the worker with the consumers and loops of every feature."""
    database = Database(settings.database_url.get_secret_value(), "contacts worker", tenant_pool=1)
    bus = make_bus(settings)
    bus.subscribe([OptOutChanged], "opt-outs", partial(on_opt_out_changed, database))
    return Worker(
        settings=settings,
        database=database,
        bus=bus,
        loops=[
            Loop("apply opt-outs", partial(apply_opt_outs, database), 1.0),
            Loop("search index", partial(clean_search_index, database), 5.0, wake=database.wakes.event(SEARCH_INDEX)),
        ],
    )
