"""Delivery's application and worker's loop, and a provider that believes whoever knows its word."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx
import pytest

from common.database import Database
from common.events import ScheduleDue
from delivery.app import create_app
from delivery.providers.base import (
    InboundMessage,
    ProviderEvent,
    OutgoingMessage,
    Provider,
    DeliveryReceipt,
    WebhookMalformed,
    WebhookRefused,
    WebhookRequest,
)
from delivery.receipts import loops
from delivery.inbound.service import ReplyPolicy
from delivery.settings import Settings

WORD = "sesame"
PHONE = "+61453000001"
ADDRESS = "/api/webhooks/providers/mobile_message"
_numbers = count(1)


class Teller(Provider):
    """Tells what its webhook's JSON says: a list of receipts or of inbound messages."""

    name = "mobile_message"
    webhook_answer = ("text/xml", "<Response/>")

    def __init__(self) -> None:
        self.heard: list[WebhookRequest] = []

    def prepare(self, messages: Sequence[OutgoingMessage]) -> bytes:
        return b""

    async def send(self, *_: Any) -> list[Any]:
        return []

    async def read_webhook(self, request: WebhookRequest) -> Sequence[ProviderEvent]:
        self.heard.append(request)
        if request.headers.get("x-word") != WORD:
            raise WebhookRefused("not signed")
        told = json.loads(request.body)
        kind = DeliveryReceipt if request.kind == "receipts" else InboundMessage
        for item in told:
            if "id" not in item:
                raise WebhookMalformed("id: is missing")
            for name in ("received_at", "occurred_at"):
                if name in item:
                    item[name] = datetime.fromisoformat(item[name])
        return [kind(**item) for item in told]


@pytest.fixture
def teller() -> Teller:
    return Teller()


@pytest.fixture
async def client(
    database: Database,
    make_settings: Callable[..., Settings],
    serve: Callable[[Any], httpx.AsyncClient],
    teller: Teller,
) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(make_settings(public_url="https://sms.example.com/"))
    app.state.providers[teller.name] = teller
    async with serve(app) as client, app.router.lifespan_context(app):
        yield client


@pytest.fixture
def tell(client: httpx.AsyncClient) -> Callable[..., Awaitable[httpx.Response]]:
    """`await tell("receipts", {…}, …)`: one webhook; `id` and times have defaults."""

    async def post(kind: str, *items: dict[str, Any], word: str = WORD) -> httpx.Response:
        told = []
        for item in items:
            full: dict[str, Any] = {"id": f"notice-{next(_numbers)}"}
            if kind == "receipts":
                full["raw"] = item["status"].upper()
            else:
                full |= {"phone": PHONE, "to": "0491 570 006", "received_at": datetime.now(UTC).isoformat()}
            told.append(full | item)
        answer = await client.post(f"{ADDRESS}/{kind}/", content=json.dumps(told), headers={"X-Word": word})
        if word == WORD:
            assert answer.status_code == 200, answer.text
        return answer

    return post


@pytest.fixture
def apply(database: Database) -> Callable[..., Awaitable[bool]]:
    """`await apply()`: what the worker's loop does once."""

    async def once(policy: ReplyPolicy | None = None) -> bool:
        return await loops.apply_notices(database, policy or ReplyPolicy())

    return once


@pytest.fixture
def sent(take_in: Any, send: Any, make_sender: Any, rows: Any) -> Callable[..., Awaitable[list[int]]]:
    """`await sent(event, …)`: the ids of messages that the carrier took; its ids for them are `mm-<id>`."""

    async def go(*events: ScheduleDue) -> list[int]:
        await take_in(*events)
        await send(make_sender())
        ids = {
            row.schedule_id: row.id
            for row in await rows("SELECT id, schedule_id FROM messages WHERE status = 'sent' AND answers IS NULL")
        }
        return [ids[event.schedule_id] for event in events]

    return go


@pytest.fixture
def message(rows: Any) -> Callable[[int], Awaitable[Any]]:
    """`await message(id)`: its row."""

    async def read(message_id: int) -> Any:
        (row,) = await rows("SELECT * FROM messages WHERE id = :id", id=message_id)
        return row

    return read
