"""Delivery's application over its database."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from common.database import Database
from delivery.app import create_app
from delivery.settings import Settings


@pytest.fixture
async def client(
    database: Database, make_settings: Callable[..., Settings], serve: Callable[[Any], httpx.AsyncClient]
) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(make_settings())
    async with serve(app) as client, app.router.lifespan_context(app):
        yield client
