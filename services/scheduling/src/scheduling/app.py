"""The HTTP entry point of scheduling."""

from functools import partial

from fastapi import FastAPI

from common.combining import Combiner
from common.database import Database, check_database
from common.http.app import make_app
from scheduling.batches import api as batches
from scheduling.clients.services import OtherServices
from scheduling.recipients import api as recipients
from scheduling.retries import api as retries
from scheduling.schedules import api as schedules
from scheduling.schedules.service import add_schedules
from scheduling.sends import api as sends
from scheduling.sends.service import Sends
from scheduling.settings import Settings
from scheduling.stats import api as stats
from scheduling.templates import api as templates
from scheduling.texts import api as texts


def create_app(settings: Settings) -> FastAPI:
    """Return the API of scheduling."""
    database = Database(settings.database_url.get_secret_value(), "scheduling api")
    services = OtherServices.connect(settings)
    features = (templates, schedules, batches, retries, sends, texts, stats, recipients)
    return make_app(
        settings,
        [feature.router for feature in features],
        state={
            "database": database,
            "services": services,
            "new_schedules": Combiner(add_schedules),
            "new_sends": Combiner(Sends().accept),
        },
        ready=partial(check_database, database),
        close=[services.close, database.close],
    )
