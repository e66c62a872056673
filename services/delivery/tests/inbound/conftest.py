"""The stage of the tests of inbound messages."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from common.database import Database
from delivery.settings import Settings
from services.delivery.tests.fake_provider import FakeProvider
from services.delivery.tests.webhook_stage import WebhookStage, open_stage


@pytest.fixture
async def stage(
    database: Database,
    organisation: str,
    fake_provider: FakeProvider,
    make_settings: Callable[..., Settings],
    serve: Callable[[Any], httpx.AsyncClient],
) -> AsyncIterator[WebhookStage]:
    """Return the stage with the application and the webhooks of a provider."""
    async with open_stage(database, organisation, fake_provider, make_settings, serve) as opened:
        yield opened
