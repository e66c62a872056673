"""The Kafka roof of delivery: its consumers and loops."""

from datetime import timedelta
from functools import partial

from common.bus import make_broker, subscribe
from common.clients import ServiceClient
from common.database import Database
from common.events import ContactChanged, OrganisationChanged, ScheduleDue
from common.loops import Loop
from common.worker import Worker
from delivery.limits.loops import check_holds, report_drift
from delivery.media.loops import remove_old_media
from delivery.messages import consumers, loops
from delivery.messages.routes import Router
from delivery.messages.rules import Policy
from delivery.messages.sender import Sender
from delivery.organisations.consumers import on_organisation_changed
from delivery.providers import make_chains, make_providers
from delivery.receipts.loops import make_loops as receipt_loops
from delivery.settings import Settings
from delivery.storage import make_storage


async def create_worker(settings: Settings) -> Worker:
    """Everything that runs in delivery's worker."""
    database = Database(settings.database_url.get_secret_value(), "delivery worker", tenant_pool=1, all_pool=12)
    scheduling = ServiceClient(
        settings.scheduling_url,
        issuer="delivery",
        audience="scheduling",
        secret=settings.internal_token_secret.get_secret_value(),
    )
    policy = Policy.model_validate(settings, from_attributes=True)
    chains = make_chains(settings)
    providers = make_providers(settings)
    senders = [
        Sender(provider, [name for name, chain in chains.items() if provider.name in chain], policy)
        for provider in providers.values()
    ]
    router = Router(chains, senders)
    storage, retention = make_storage(settings), timedelta(days=settings.media_retention_days)
    broker = make_broker(settings)
    take_in = partial(consumers.on_schedule_due, database, senders, settings.message_deadline_s)
    subscribe(broker, settings, [ScheduleDue], "intake", take_in)
    subscribe(broker, settings, [ContactChanged], "contacts", partial(consumers.on_contact_changed, database))
    subscribe(broker, settings, [OrganisationChanged], "organisations", partial(on_organisation_changed, database))
    running = [
        Loop("check_holds", partial(check_holds, database, scheduling), 15.0),
        Loop("report_drift", partial(report_drift, database), 3600.0),
        Loop("queue_retries", partial(loops.queue_retries, database, senders), 0.5),
        Loop("remove_old_media", partial(remove_old_media, database, storage, scheduling, retention), 600.0),
        *receipt_loops(database, settings, list(providers.values())),
        Loop("expire", partial(loops.expire, database), 5.0),
        Loop("settle_strangers", partial(loops.settle_strangers, database, providers.keys(), policy), 60.0),
        *(loop for sender in senders for loop in loops.make_loops(database, router, sender)),
    ]
    return Worker(
        settings,
        database,
        broker,
        running,
        drain=[partial(loops.drain, database, sender) for sender in senders],
        close=[*(provider.close for provider in providers.values()), scheduling.close, storage.close],
    )
