"""A client of the gateway for one organisation. It repeats requests until they have a definite answer."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import aiohttp

from tools.chaos.records import Records, find_token

_TIMEOUT = aiohttp.ClientTimeout(total=10)
_PAUSE_S = (0.2, 1.5)
_REPEAT_SHARE = 0.25  # of the answered requests with a key that are sent once more
# Answers that say nothing about the effect of this request or of an earlier one with its key: no connection, a running
# first request, a rate limit, an unavailable service.
_INDEFINITE = (0, 409, 429, 502, 503, 504)


@dataclass(frozen=True)
class Answer:
    """An answer. The status is 0 when none arrived. `at` is when it arrived, in Unix seconds."""

    status: int
    body: Any
    at: float

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return self.status // 100 == 2

    @property
    def is_definite(self) -> bool:
        """Whether the answer says what became of the request."""
        return self.status not in _INDEFINITE

    @property
    def content(self) -> Any:
        """The body without `request_id`, in which a replayed answer differs."""
        if not isinstance(self.body, dict):
            return self.body
        return {name: value for name, value in self.body.items() if name != "request_id"}


class Client:
    """Sends the requests of one organisation, and records what is wrong with an answer by itself.

    `give_up_at` is the time (of the event loop) after which nothing is repeated.
    """

    def __init__(
        self, http: aiohttp.ClientSession, gateway: str, token: Callable[[], str], number: int, records: Records
    ) -> None:
        """Set who sends to whom. `number` is that of the organisation."""
        self._http, self._gateway, self._token = http, gateway, token
        self.number, self.records = number, records
        self.give_up_at = float("inf")

    async def once(self, method: str, path: str, body: Any = None, key: str = "") -> Answer:
        """Send a request once."""
        headers = {"Authorization": f"Bearer {self._token()}", "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        content = None if body is None else json.dumps(body).encode()
        try:
            async with self._http.request(
                method, self._gateway + path, data=content, headers=headers, timeout=_TIMEOUT
            ) as answer:
                raw = await answer.read()
                result = Answer(answer.status, _parse(raw), time.time())
        except (aiohttp.ClientError, TimeoutError, OSError):
            result = Answer(0, None, time.time())
        self.records.statuses[result.status] += 1
        if result.status == 500:
            self.records.violations.append((8, f"{method} {path}: {result.body}"))
        self._check_owner(path, result)
        return result

    async def until_definite(self, method: str, path: str, body: Any = None, key: str = "") -> tuple[Answer, bool]:
        """Repeat a request until its answer is definite. Return it, and whether an earlier one was not."""
        random = Random(f"{path}{key}")
        was_indefinite = False
        while True:
            answer = await self.once(method, path, body, key)
            if answer.is_definite:
                return answer, was_indefinite
            if asyncio.get_running_loop().time() > self.give_up_at:
                self.records.unanswered.append(f"{method} {path} {key}: {answer.status} {answer.body}")
                return answer, True
            was_indefinite = True
            self.records.repeated += 1
            await asyncio.sleep(random.uniform(*_PAUSE_S))

    async def keyed(self, path: str, body: Any, key: str, random: Random) -> tuple[Answer, bool]:
        """Repeat a POST with its key until it has a definite answer. Sometimes repeat it after that and compare."""
        answer, was_indefinite = await self.until_definite("POST", path, body, key)
        if answer.is_success and random.random() < _REPEAT_SHARE:
            again, _ = await self.until_definite("POST", path, body, key)
            self.records.replayed += 1
            # A closed organisation gets 403 and a client that gave up has no answer: neither says anything.
            compared = again.status not in (*_INDEFINITE, 401, 403)
            if compared and (again.status, again.content) != (answer.status, answer.content):
                what = f"{answer.status} {answer.content}, then {again.status} {again.content}"
                self.records.violations.append((6, f"POST {path} with the key {key} answered {what}"))
        return answer, was_indefinite

    def _check_owner(self, path: str, answer: Answer) -> None:
        """Record a text of another organisation in an answer."""
        found = find_token(json.dumps(answer.body)) if answer.body else None
        if found and any(each[1] != self.number for each in map(find_token, _texts(answer.body)) if each is not None):
            self.records.violations.append((5, f"{path} showed organisation {self.number} a text of another"))


def _texts(body: Any) -> list[str]:
    """Return every text of a JSON value."""
    if isinstance(body, str):
        return [body]
    if isinstance(body, dict):
        body = list(body.values())
    return [text for each in body for text in _texts(each)] if isinstance(body, list) else []


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return raw.decode(errors="replace")
