"""A provider from outside the repository, as an example to copy: SMS_PROVIDERS=docs.examples.pigeon:Pigeon.

The pigeon loft accepts `{"letters": [{"to", "from", "text", "ref"}]}` and answers `{"letters": [{"ref", "id"}]}`, or
`{"ref", "why"}` for a letter that it refuses. See docs/providers.md.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic import Field, SecretStr
from pydantic_core import to_json
from pydantic_settings import SettingsConfigDict

from common.events import FailureCategory
from delivery.providers.base import (
    MISSING,
    AccountError,
    AccountStatus,
    Outcome,
    OutgoingMessage,
    Provider,
    SubmissionRefused,
)
from delivery.providers.http import HttpApi, error_of, is_host_of, read_reason
from delivery.providers.webhook_parsing import Mark, storable_text
from delivery.settings import OwnSettings, Settings


class PigeonSettings(OwnSettings):
    """The settings PIGEON_…"""

    model_config = SettingsConfigDict(env_prefix="PIGEON_")

    base_url: str = "https://api.pigeon.example"
    token: SecretStr = SecretStr("")
    sender_id: str = Field("", description="empty: the loft chooses one")
    concurrency: int = Field(2, ge=1, description="maximum of requests at once")
    rate: float = Field(0.0, ge=0, description="maximum of parts per second; 0: no maximum")


class Pigeon(Provider):
    """Ten letters in a request. It sends no receipts and has no look-up."""

    name = "pigeon"
    settings_class = PigeonSettings
    batch_size = 10

    def __init__(self, settings: Settings, own: PigeonSettings | None = None) -> None:
        own = own or PigeonSettings.from_environment()
        own.require("token")
        self.concurrency = own.concurrency
        self.rate = own.rate
        self.reaches_people = is_host_of(own.base_url, "pigeon.example")
        self.default_sender_id = own.sender_id
        self._mark = Mark(settings)
        self._api = HttpApi(
            own.base_url,
            {"Authorization": f"Bearer {own.token.get_secret_value()}"},
            timeout_s=settings.request_timeout_s,
            concurrency=self.concurrency,
        )

    def prepare(self, messages: Sequence[OutgoingMessage]) -> bytes:
        letters = [
            {
                "to": message.phone,
                "from": message.sender_id or self.default_sender_id,
                "text": message.text,
                "ref": self._mark.write(message.id),
            }
            for message in messages
        ]
        return to_json({"letters": letters})

    async def send(self, key: UUID, body: bytes, references: Sequence[int]) -> list[Outcome]:
        answer = await self._api.post("/letters", body, {"Content-Type": "application/json"})
        reason = read_reason(answer, "why")
        if answer.status == 400:
            item = Outcome("refused", failure_category="unknown", error=reason or "Refused.")
            raise SubmissionRefused(f"400 {reason}", item)
        if answer.status != 200:
            raise error_of(answer, reason)
        letters = answer.fields().get("letters")
        items = [letter for letter in letters if isinstance(letter, dict)] if isinstance(letters, list) else []
        by_reference = {self._mark.read(item.get("ref")): item for item in items}
        return [_read_item(by_reference.get(reference)) for reference in references]

    async def check(self) -> AccountStatus:
        answer = await self._api.get("/loft")
        if answer.status != 200:
            raise AccountError(f"{answer.status}")
        return AccountStatus()

    async def close(self) -> None:
        await self._api.close()


def _read_item(item: dict[str, Any] | None) -> Outcome:
    if item is None:
        return MISSING
    if why := item.get("why"):
        category: FailureCategory = "invalid_number" if why == "no such address" else "unknown"
        return Outcome("refused", failure_category=category, error=storable_text(str(why)))
    return Outcome("accepted", storable_text(str(item.get("id"))))
