"""The Kafka entry point of delivery: its consumers and loops."""

from datetime import timedelta
from functools import partial

from common.bus import make_bus
from common.clients import ServiceClient
from common.database import Database
from common.events import ContactChanged, OrganisationChanged, ScheduleDue
from common.loops import Loop
from common.worker import Worker
from delivery.limits.loops import check_reservations, report_drift
from delivery.media.loops import remove_old_media
from delivery.messages.consumers import on_schedule_due
from delivery.messages.loops import expire, queue_retries
from delivery.models import EXPIRED, RETRIES, WORK
from delivery.opt_outs.consumers import on_contact_changed
from delivery.organisations.consumers import on_organisation_changed
from delivery.providers import make_chains, make_providers
from delivery.receipts.loops import make_loops as make_receipt_loops
from delivery.retention import RULES
from delivery.sending.loops import drain, give_up_unconfigured
from delivery.sending.loops import make_loops as make_sending_loops
from delivery.sending.provider_worker import make_workers, observe
from delivery.sending.routing import Availability, Router
from delivery.sending.rules import SendingPolicy
from delivery.settings import Settings
from delivery.storage import make_storage


async def create_worker(settings: Settings) -> Worker:
    """Return delivery's worker with its consumers and loops. Raises InvalidSetting."""
    secret = settings.internal_token_secret.get_secret_value()
    database = Database(settings.database_url.get_secret_value(), "delivery worker", tenant_pool=1, all_pool=12)
    scheduling = ServiceClient(settings.scheduling_url, issuer="delivery", audience="scheduling", secret=secret)
    storage, retention = make_storage(settings), timedelta(days=settings.media_retention_days)
    chains, providers = make_chains(settings), make_providers(settings)
    availability, policy = Availability(), SendingPolicy.model_validate(settings, from_attributes=True)
    workers = make_workers(providers.values(), chains, policy, availability)
    router, wakes = Router(chains, availability), [worker.wake for worker in workers]
    bus = make_bus(settings)
    on_due = partial(on_schedule_due, database, wakes, settings.message_deadline_s)
    bus.subscribe([ScheduleDue], "intake", on_due, is_busy=True)
    bus.subscribe([ContactChanged], "contacts", partial(on_contact_changed, database))
    bus.subscribe([OrganisationChanged], "organisations", partial(on_organisation_changed, database))
    loops = [
        Loop("check_reservations", partial(check_reservations, database, scheduling), 15.0),
        Loop("report_drift", partial(report_drift, database), 3600.0),
        Loop("queue_retries", partial(queue_retries, database, wakes), 30.0, database.wakes.event(RETRIES)),
        Loop("expire", partial(expire, database), 30.0, database.wakes.event(EXPIRED)),
        Loop("remove_old_media", partial(remove_old_media, database, storage, scheduling, retention), 600.0),
        Loop("give_up_unconfigured", partial(give_up_unconfigured, database, providers.keys(), policy), 60.0),
        *make_receipt_loops(database, list(providers.values())),
        *make_sending_loops(database, router, workers),
    ]
    return Worker(
        settings=settings,
        database=database,
        bus=bus,
        loops=loops,
        work=WORK,
        drain=[partial(drain, database, worker) for worker in workers],
        close=[*(provider.close for provider in providers.values()), scheduling.close, storage.close],
        observed=observe(workers),
        retention=RULES,
    )
