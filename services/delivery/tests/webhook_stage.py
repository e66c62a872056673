"""The stage of the tests of webhooks: delivery's application, its worker's loop, and a provider that posts webhooks."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx

from common.database import Database
from common.events import ScheduleDue
from delivery.app import create_app
from delivery.inbound.rules import InboundPolicy
from delivery.providers.base import (
    DeliveryReceipt,
    InboundMessage,
    Outcome,
    OutgoingMessage,
    Provider,
    ProviderEvent,
    WebhookMalformed,
    WebhookRefused,
    WebhookRequest,
)
from delivery.receipts import loops
from delivery.settings import Settings
from services.delivery.tests.fake_provider import FakeProvider
from services.delivery.tests.stage import Stage

SIGNATURE = "sesame"
PHONE = "+61453000001"
ADDRESS = "/api/webhooks/providers/mobile_message"
_numbers = count(1)


class JsonProvider(Provider):
    """A provider whose webhooks are JSON lists of receipts or inbound messages, with a fixed signature."""

    name = "mobile_message"
    webhook_answer = ("text/xml", "<Response/>")
    webhook_kinds = frozenset({"receipts", "inbound", "else"})

    def __init__(self) -> None:
        self.requests: list[WebhookRequest] = []

    def prepare(self, messages: Sequence[OutgoingMessage]) -> bytes:
        return b""

    async def send(self, *_: Any) -> list[Outcome]:
        return []

    async def read_webhook(self, request: WebhookRequest) -> Sequence[ProviderEvent]:
        self.requests.append(request)
        if request.headers.get("x-signature") != SIGNATURE:
            raise WebhookRefused("not signed")
        items = json.loads(request.body)
        for item in items:
            if "id" not in item:
                raise WebhookMalformed("id: is missing")
            for name in ("received_at", "occurred_at"):
                if name in item:
                    item[name] = datetime.fromisoformat(item[name])
        kind: type[ProviderEvent] = DeliveryReceipt if request.kind == "receipts" else InboundMessage
        return [kind(**item) for item in items]


@dataclass(kw_only=True)
class WebhookStage(Stage):
    """The stage with a client of the application. `json_provider` reads the webhooks."""

    client: httpx.AsyncClient
    json_provider: JsonProvider

    async def post(self, kind: str, *items: dict[str, Any], signature: str = SIGNATURE) -> httpx.Response:
        """Post one webhook. The ids, times and numbers of its items have defaults."""
        full = []
        for item in items:
            defaults: dict[str, Any] = {"id": f"event-{next(_numbers)}"}
            if kind == "receipts":
                defaults["raw"] = item["status"].upper()
            else:
                defaults |= {"phone": PHONE, "to": "0491 570 006", "received_at": datetime.now(UTC).isoformat()}
            full.append(defaults | item)
        headers = {"X-Signature": signature}
        answer = await self.client.post(f"{ADDRESS}/{kind}/", content=json.dumps(full), headers=headers)
        if signature == SIGNATURE:
            assert answer.status_code == 200, answer.text
        return answer

    async def apply(self, policy: InboundPolicy | None = None) -> bool:
        """Apply the webhook events that are due, as the worker's loop does once."""
        return await loops.apply_webhook_events(self.database, policy or InboundPolicy())

    async def receive(self, kind: str, *items: dict[str, Any]) -> None:
        """Post one webhook and apply it."""
        await self.post(kind, *items)
        await self.apply()

    async def sent(self, *events: ScheduleDue) -> list[int]:
        """Return the ids of messages that the fake provider accepted. Its own ids for them are `mm-<id>`."""
        await self.add_due(*events)
        await self.send(self.make_worker())
        statement = "SELECT id, schedule_id FROM messages WHERE status = 'sent' AND auto_reply_to IS NULL"
        ids = {row.schedule_id: row.id for row in await self.rows(statement)}
        return [ids[event.schedule_id] for event in events]

    async def get(self, message_id: int) -> Any:
        """Return the row of a message."""
        (row,) = await self.rows("SELECT * FROM messages WHERE id = :id", id=message_id)
        return row

    async def status_of(self, *message_ids: int) -> list[str]:
        """Return the statuses of messages."""
        return [(await self.get(message_id)).status for message_id in message_ids]

    async def auto_replies(self) -> list[str]:
        """Return the texts of our auto-replies, in order."""
        rows = await self.rows("SELECT text FROM messages WHERE auto_reply_to IS NOT NULL ORDER BY id")
        return [row.text for row in rows]

    async def opted_out(self) -> list[bool]:
        """Return whether each number with a row is opted out."""
        return [row.opted_out for row in await self.rows("SELECT opted_out FROM opt_outs ORDER BY phone")]


@asynccontextmanager
async def open_stage(
    database: Database,
    organisation: str,
    fake_provider: FakeProvider,
    make_settings: Callable[..., Settings],
    serve: Callable[[Any], httpx.AsyncClient],
) -> AsyncIterator[WebhookStage]:
    """Open the stage, with the application's provider replaced by a `JsonProvider`."""
    app = create_app(make_settings(public_url="https://sms.example.com/"))
    json_provider = JsonProvider()
    app.state.providers[json_provider.name] = json_provider
    async with serve(app) as client, app.router.lifespan_context(app):
        stage = WebhookStage(
            database=database,
            organisation=organisation,
            provider=fake_provider,
            make_settings=make_settings,
            client=client,
            json_provider=json_provider,
        )
        yield stage
        await stage.close()
