"""The HTTP entry point of delivery."""

from functools import partial

from fastapi import FastAPI

from common.clients import ServiceClient
from common.database import Database, check_database
from common.http.app import make_app
from delivery.configs.api import router as configs_router
from delivery.limits.api import router as limits_router
from delivery.media.api import router as media_router
from delivery.media.rules import Links
from delivery.messages.api import router as messages_router
from delivery.opt_outs.api import router as opt_outs_router
from delivery.providers import make_chains, make_providers
from delivery.receipts.api import router as receipts_router
from delivery.settings import Settings
from delivery.storage import make_storage


def create_app(settings: Settings) -> FastAPI:
    """Return the application with its database, providers and storage. Raises InvalidSetting."""
    database = Database(settings.database_url.get_secret_value(), "delivery api")
    storage = make_storage(settings)
    providers = make_providers(settings)
    contacts = ServiceClient(
        settings.contacts_url,
        issuer="delivery",
        audience="contacts",
        secret=settings.internal_token_secret.get_secret_value(),
    )
    return make_app(
        settings,
        [configs_router, limits_router, media_router, messages_router, opt_outs_router, receipts_router],
        state={
            "database": database,
            "chains": make_chains(settings),
            "providers": providers,
            "contacts": contacts,
            "storage": storage,
            "links": Links.of(settings),
        },
        ready=partial(check_database, database),
        close=[contacts.close, *(provider.close for provider in providers.values()), database.close, storage.close],
    )
