"""The Kafka entry point: the consumers and loops of this service."""

import asyncio
import sys
from functools import partial

from common.bus import make_bus
from common.database import Database
from common.events import OptOutChanged
from common.loops import Loop
from common.worker import Worker
from contacts.contacts.consumers import on_opt_out_changed
from contacts.contacts.loops import apply_opt_outs, clean_search_index
from contacts.contacts.service import SEARCH_INDEX
from contacts.imports.jobs import AT_ONCE
from contacts.imports.loops import run_next_import
from contacts.models import IMPORTS, OPT_OUTS, WORK
from contacts.retention import RULES
from contacts.settings import Settings

_SLOW_S = 30.0  # an event wakes a loop as soon as it has work


async def create_worker(settings: Settings) -> Worker:
    """Return the worker with the consumers and loops of every feature."""
    database = Database(settings.database_url.get_secret_value(), "contacts worker", tenant_pool=2)
    # A thread that reads an import gives way to the event loop after this time. Python's default is ten times as long.
    sys.setswitchinterval(0.0005)
    bus = make_bus(settings)
    bus.subscribe([OptOutChanged], "opt-outs", partial(on_opt_out_changed, database))
    return Worker(
        settings=settings,
        database=database,
        bus=bus,
        loops=[
            Loop("apply opt-outs", partial(apply_opt_outs, database), _SLOW_S, database.wakes.event(OPT_OUTS)),
            Loop("search index", partial(clean_search_index, database), 5.0, wake=database.wakes.event(SEARCH_INDEX)),
            *(_import_loop(database, number) for number in range(1, AT_ONCE + 1)),
        ],
        work=WORK,
        retention=RULES,
    )


def _import_loop(database: Database, number: int) -> Loop:
    """Return a loop that runs one import at a time. Each of these loops has an event of its own."""
    wake = asyncio.Event()
    database.wakes.add(IMPORTS, wake)
    return Loop(f"imports {number}", partial(run_next_import, database), _SLOW_S, wake)
