"""The HTTP roof of scheduling."""

from functools import partial

from fastapi import FastAPI

from common.database import Database, check_database
from common.http.app import make_app
from scheduling.clients import Neighbours
from scheduling.group_schedules import api as group_schedules
from scheduling.previews import api as previews
from scheduling.schedules import api as schedules
from scheduling.sends import api as sends
from scheduling.settings import Settings
from scheduling.stats import api as stats
from scheduling.templates import api as templates


def create_app(settings: Settings) -> FastAPI:
    """The API of scheduling."""
    database = Database(settings.database_url.get_secret_value(), "scheduling api")
    neighbours = Neighbours.connect(settings)
    return make_app(
        settings,
        [templates.router, schedules.router, group_schedules.router, sends.router, previews.router, stats.router],
        state={"database": database, "neighbours": neighbours},
        ready=partial(check_database, database),
        close=[neighbours.close, database.close],
    )
