"""The Kafka roof of scheduling."""

from functools import partial

from common.bus import make_broker, subscribe
from common.database import Database
from common.events import (
    ContactChanged,
    MessageDelayed,
    MessageDelivered,
    MessageFailed,
    MessageSent,
    OrganisationChanged,
    SettingsChanged,
)
from common.loops import Loop
from common.worker import Worker
from scheduling.clients import Neighbours
from scheduling.dispatch.loops import dispatch_due
from scheduling.group_schedules.loops import end_groups, expand_groups, release_holds, retry_groups
from scheduling.organisations.consumers import on_settings_changed
from scheduling.outcomes.consumers import (
    on_message_delayed,
    on_message_delivered,
    on_message_failed,
    on_message_sent,
)
from scheduling.outcomes.loops import sweep
from scheduling.recipients.consumers import on_contact_changed
from scheduling.recipients.loops import forget_old_changes
from scheduling.schedules.consumers import on_organisation_changed
from scheduling.settings import Settings


async def create_worker(settings: Settings) -> Worker:
    """Consumers and loops of scheduling."""
    database = Database(settings.database_url.get_secret_value(), "scheduling worker", tenant_pool=1, all_pool=12)
    neighbours = Neighbours.connect(settings)
    broker = make_broker(settings)
    subscribe(broker, settings, [MessageSent], "outcomes-sent", partial(on_message_sent, database))
    subscribe(broker, settings, [MessageFailed], "outcomes-failed", partial(on_message_failed, database))
    subscribe(broker, settings, [MessageDelayed], "outcomes-delayed", partial(on_message_delayed, database))
    subscribe(broker, settings, [MessageDelivered], "outcomes-delivered", partial(on_message_delivered, database))
    subscribe(broker, settings, [ContactChanged], "contacts", partial(on_contact_changed, database))
    subscribe(broker, settings, [OrganisationChanged], "organisations", partial(on_organisation_changed, database))
    subscribe(broker, settings, [SettingsChanged], "settings", partial(on_settings_changed, database))
    return Worker(
        settings=settings,
        database=database,
        broker=broker,
        loops=[
            Loop("dispatch", partial(dispatch_due, database, settings), 0.1),
            Loop("expand groups", partial(expand_groups, database, neighbours), 0.2),
            Loop("retry groups", partial(retry_groups, database), 0.2),
            Loop("end groups", partial(end_groups, database), 0.5),
            Loop("release holds", partial(release_holds, database, neighbours), 1.0),
            Loop("sweep", partial(sweep, database, neighbours, settings), min(5.0, settings.sweep_after_s / 4)),
            Loop("forget changes", partial(forget_old_changes, database), 3600.0),
        ],
        close=[neighbours.close],
    )
