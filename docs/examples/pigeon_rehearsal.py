"""What the provider contract needs to try a provider from outside: its carrier, and whom it does what for.

Run: REHEARSAL=docs.examples.pigeon_rehearsal:PigeonRehearsal, and the tests of docs/providers.md.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from aiohttp import web

from docs.examples.pigeon import Pigeon
from services.delivery.tests.providers.contract import Rehearsal, Situation, make_settings, serve


class PigeonRehearsal(Rehearsal):
    provider = Pigeon
    phones: ClassVar[Mapping[Situation, str]] = {
        "accepted": "+61491570006",
        "refused": "+61491570157",
        "throttled": "+61491572665",
        "account_fault": "+61491572983",
        "reset": "+61491571804",
        "silent": "+61491571491",
    }

    async def open(self, public_url: str, folder: Path) -> None:
        self._taken: list[int] = []
        app = web.Application()
        app.add_routes([web.post("/letters", self._take), web.get("/loft", self._look)])
        self._runner, self._url = await serve(app)

    async def close(self) -> None:
        await self._runner.cleanup()

    def make(self, *, url: str | None = None, is_known: bool = True, **settings: Any) -> Pigeon:
        os.environ |= {"PIGEON_URL": url or self._url, "PIGEON_TOKEN": "bread" if is_known else "stone"}
        made = Pigeon(make_settings(**settings))
        made.is_vendor = False
        return made

    async def taken(self) -> list[int]:
        return self._taken

    async def _look(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.headers["Authorization"] == "Bearer bread" else 401)

    async def _take(self, request: web.Request) -> web.Response:
        if request.headers["Authorization"] != "Bearer bread":
            return web.Response(status=401)
        letters = (await request.json())["letters"]
        situations = {self._situation(letter["to"]) for letter in letters}
        if "throttled" in situations:
            return web.Response(status=429)
        if "account_fault" in situations:
            return web.Response(status=402)
        answers = []
        for letter in letters:
            if self._situation(letter["to"]) == "refused":
                answers.append({"ref": letter["ref"], "why": "no such roof"})
                continue
            self._taken.append(int(letter["ref"].rpartition("-")[2]))
            answers.append({"ref": letter["ref"], "id": f"feather-{letter['ref']}"})
        if "reset" in situations and request.transport is not None:
            request.transport.abort()
        if "silent" in situations:
            await asyncio.Event().wait()
        return web.json_response({"letters": answers[::-1]})

    def _situation(self, phone: str) -> str:
        return next((situation for situation, number in self.phones.items() if number == phone), "accepted")
