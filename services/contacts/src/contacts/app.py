"""The HTTP entry point."""

import sys

from fastapi import FastAPI

from common.combining import Combiner
from common.database import Database, check_database
from common.http.app import make_app
from contacts.clients.services import OtherServices
from contacts.contacts.api import router as contacts_router
from contacts.contacts.service import add_new_contacts
from contacts.groups.api import router as groups_router
from contacts.identity.api import router as identity_router
from contacts.imports.api import router as imports_router
from contacts.imports.turns import ImportTurns
from contacts.recipients.api import router as recipients_router
from contacts.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """Return the API with the routes of every feature."""
    database = Database(settings.database_url.get_secret_value(), "contacts api")
    services = OtherServices.connect(settings)
    # The thread that reads an import gives way to requests after this time. Python's default is ten times as long.
    sys.setswitchinterval(0.0005)

    async def ready() -> None:
        await check_database(database)

    return make_app(
        settings,
        [contacts_router, imports_router, groups_router, recipients_router, identity_router],
        state={
            "database": database,
            "services": services,
            "import_turns": ImportTurns(),
            "new_contacts": Combiner(add_new_contacts, max_rounds=2),
        },
        ready=ready,
        close=[services.close, database.close],
    )
