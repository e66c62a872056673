"""The Kafka entry point of scheduling: its consumers and loops."""

from functools import partial

from common.bus import make_bus
from common.database import Database
from common.events import (
    ContactChanged,
    OrganisationChanged,
    SettingsChanged,
)
from common.loops import Loop
from common.readings import Observed
from common.worker import Worker
from scheduling.batches.loops import fan_out_batches, finish_batches, release_reservations
from scheduling.clients.services import OtherServices
from scheduling.dispatch.loops import dispatch_due
from scheduling.metrics import READINGS
from scheduling.models import DISPATCH, FAN_OUT, FINISH, RELEASE, RETRIES, SWEEP, WORK
from scheduling.organisations.consumers import on_settings_changed
from scheduling.outcomes.consumers import OUTCOMES, on_outcomes
from scheduling.outcomes.loops import sweep
from scheduling.recipients.consumers import on_contact_changed
from scheduling.retention import RULES
from scheduling.retries.loops import continue_retries
from scheduling.schedules.consumers import on_organisation_changed
from scheduling.settings import Settings

_SLOW_S = 30.0  # an event wakes a loop as soon as it has work


async def create_worker(settings: Settings) -> Worker:
    """Return the worker of scheduling."""
    database = Database(settings.database_url.get_secret_value(), "scheduling worker", tenant_pool=1, all_pool=12)
    services = OtherServices.connect(settings)
    bus, event = make_bus(settings), database.wakes.event
    bus.subscribe(OUTCOMES, "outcomes", partial(on_outcomes, database), is_busy=True)
    bus.subscribe([ContactChanged], "contacts", partial(on_contact_changed, database))
    bus.subscribe([OrganisationChanged], "organisations", partial(on_organisation_changed, database))
    bus.subscribe([SettingsChanged], "settings", partial(on_settings_changed, database))
    return Worker(
        settings=settings,
        database=database,
        bus=bus,
        loops=[
            Loop("dispatch", partial(dispatch_due, database, settings), _SLOW_S, event(DISPATCH)),
            Loop("fan out batches", partial(fan_out_batches, database, services), _SLOW_S, event(FAN_OUT)),
            Loop("continue retries", partial(continue_retries, database), _SLOW_S, event(RETRIES)),
            Loop("finish batches", partial(finish_batches, database), _SLOW_S, event(FINISH)),
            Loop("release reservations", partial(release_reservations, database, services), _SLOW_S, event(RELEASE)),
            Loop("sweep", partial(sweep, database, services, settings), _SLOW_S, event(SWEEP)),
        ],
        work=WORK,
        observed=Observed(READINGS),
        retention=RULES,
        close=[services.close],
    )
