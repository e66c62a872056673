"""A rehearsal of the pigeon: a server that plays its loft, so that the contract test can run on it.

Run the contract test with REHEARSAL=docs.examples.pigeon_rehearsal:PigeonRehearsal, as docs/providers.md says.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from aiohttp import web
from pydantic import SecretStr

from docs.examples.pigeon import Pigeon, PigeonSettings
from services.delivery.tests.providers.contract import Rehearsal, Situation, make_settings, serve


class PigeonRehearsal(Rehearsal):
    """The pigeon and its loft. The recipient decides what the loft does."""

    provider = Pigeon
    phones: ClassVar[Mapping[Situation, str]] = {
        "accepted": "+61491570006",
        "refused": "+61491570157",
        "throttled": "+61491572665",
        "account_error": "+61491572983",
        "reset": "+61491571804",
        "silent": "+61491571491",
    }

    async def open(self, public_url: str, folder: Path) -> None:
        self._accepted: list[tuple[int, str]] = []
        app = web.Application()
        app.add_routes([web.post("/letters", self._accept), web.get("/loft", self._check)])
        self._runner, self._url = await serve(app)

    async def close(self) -> None:
        await self._runner.cleanup()

    def make(self, *, url: str | None = None, has_credentials: bool = True, **settings: Any) -> Pigeon:
        own = PigeonSettings(
            base_url=url or self._url,
            token=SecretStr("bread" if has_credentials else "stone"),
            sender_id="+61491570110",
        )
        return Pigeon(make_settings(**settings), own)

    async def accepted(self) -> list[tuple[int, str]]:
        return self._accepted

    async def _check(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.headers["Authorization"] == "Bearer bread" else 401)

    async def _accept(self, request: web.Request) -> web.Response:
        if request.headers["Authorization"] != "Bearer bread":
            return web.Response(status=401)
        letters = (await request.json())["letters"]
        situations = {self._situation(letter["to"]) for letter in letters}
        if "throttled" in situations:
            return web.Response(status=429)
        if "account_error" in situations:
            return web.Response(status=402)
        answers = []
        for letter in letters:
            if self._situation(letter["to"]) == "refused":
                answers.append({"ref": letter["ref"], "why": "no such address"})
                continue
            self._accepted.append((int(letter["ref"].rpartition("-")[2]), letter["from"]))
            answers.append({"ref": letter["ref"], "id": f"feather-{letter['ref']}"})
        if "reset" in situations and request.transport is not None:
            request.transport.abort()
        if "silent" in situations:
            await asyncio.Event().wait()
        return web.json_response({"letters": answers[::-1]})

    def _situation(self, phone: str) -> str:
        return next((situation for situation, number in self.phones.items() if number == phone), "accepted")
