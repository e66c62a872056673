"""The provider for development: it writes to the log, sends nothing, and always succeeds."""

from collections.abc import Sequence
from uuid import UUID

import structlog
from pydantic_settings import BaseSettings

from delivery.providers.base import Outcome, OutgoingMessage, Provider
from delivery.settings import Settings

log = structlog.get_logger()


class LogProvider(Provider):
    """A provider without a network. The log has the ids of messages, never their phones or texts."""

    name = "log"
    formats = frozenset({"sms", "mms"})
    deduplicates = True

    def __init__(self, settings: Settings, own: BaseSettings | None = None) -> None:
        self.batch_size = 100
        self.concurrency = 4

    def prepare(self, messages: Sequence[OutgoingMessage]) -> bytes:
        return b""

    async def send(self, key: UUID, body: bytes, references: Sequence[int]) -> list[Outcome]:
        log.info("messages sent", provider=self.name, key=str(key), message_ids=list(references))
        return [Outcome("accepted", provider_message_id=f"log-{reference}") for reference in references]
