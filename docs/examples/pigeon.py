"""A provider from outside the tree, to be copied and changed: SMS_PROVIDERS=docs.examples.pigeon:Pigeon.

Its carrier takes `{"letters": [{"to", "text", "ref"}]}` and answers `{"letters": [{"ref", "id"} or {"ref", "why"}]}`.
See docs/providers.md.
"""

import os
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic_core import to_json

from delivery.providers.base import MISSING, AccountFault, BatchRefused, Outcome, OutgoingMessage, Provider, Standing
from delivery.providers.http import HttpApi, failure_of, read_reason
from delivery.providers.words import Mark, clean
from delivery.settings import Settings


class Pigeon(Provider):
    """Ten letters a flight. It tells nothing later, and cannot be asked."""

    name = "pigeon"

    def __init__(self, settings: Settings) -> None:
        self.batch_size = 10
        self.concurrency = 2
        self.is_vendor = True  # what it takes reaches people
        self._mark = Mark(settings)
        self._api = HttpApi(
            os.environ["PIGEON_URL"],  # settings of its own: delivery's are for what is in the tree
            {"Authorization": f"Bearer {os.environ['PIGEON_TOKEN']}"},
            timeout_s=settings.request_timeout_s,
            concurrency=self.concurrency,
        )

    def prepare(self, messages: Sequence[OutgoingMessage]) -> bytes:
        letters = [
            {"to": message.phone, "text": message.text, "ref": self._mark.write(message.id)} for message in messages
        ]
        return to_json({"letters": letters})

    async def send(self, key: UUID, body: bytes, references: Sequence[int]) -> list[Outcome]:
        answer = await self._api.post("/letters", body, {"Content-Type": "application/json"})
        if answer.status == 400:
            reason = read_reason(answer, "why")
            raise BatchRefused(f"400 {reason}", Outcome("refused", category="unknown", error=reason or "Refused."))
        if answer.status != 200:
            raise failure_of(answer, read_reason(answer, "why"))
        letters = answer.fields().get("letters")
        known = [letter for letter in letters if isinstance(letter, dict)] if isinstance(letters, list) else []
        by_reference = {self._mark.read(letter.get("ref")): letter for letter in known}
        return [_read(by_reference.get(reference)) for reference in references]

    async def check(self) -> Standing:
        answer = await self._api.get("/loft")
        if answer.status != 200:
            raise AccountFault(f"{answer.status}")
        return Standing()

    async def close(self) -> None:
        await self._api.close()


def _read(letter: dict[str, Any] | None) -> Outcome:
    if letter is None:
        return MISSING  # not in the answer: nobody knows
    if why := letter.get("why"):
        category = "invalid_number" if why == "no such roof" else "unknown"
        return Outcome("refused", category=category, error=clean(str(why)))
    return Outcome("accepted", clean(str(letter.get("id"))))
