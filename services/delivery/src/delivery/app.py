"""The HTTP roof of delivery."""

from functools import partial

from fastapi import FastAPI

from common.database import Database, check_database
from common.http.app import make_app
from delivery.limits.api import router as limits_router
from delivery.media.api import router as media_router
from delivery.media.rules import Links
from delivery.messages.api import router as messages_router
from delivery.providers import make_chains
from delivery.settings import Settings
from delivery.storage import make_storage


def create_app(settings: Settings) -> FastAPI:
    """The application, with its database pool."""
    database = Database(settings.database_url.get_secret_value(), "delivery api")
    storage = make_storage(settings)
    return make_app(
        settings,
        [limits_router, media_router, messages_router],
        state={"database": database, "chains": make_chains(settings), "storage": storage, "links": Links.of(settings)},
        ready=partial(check_database, database),
        close=[database.close, storage.close],
    )
