"""What the vendors' HTTP interfaces have in common: one session, and what a failure on the way means.

The line that must not blur: without a connection nothing was sent; once a request was written, only an answer tells.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from pydantic_core import from_json

from common.context import request_id
from delivery.providers.base import AccountError, SubmissionError, NotConnected, OutcomeUnknown, Throttled
from delivery.providers.webhook_parsing import LONGEST_REASON, clean

CONNECT_S = 3.0
_KEEP_ALIVE_S = 15.0  # shorter than servers' own, so that a request rarely meets a connection that is being closed
_RETRY_AFTER_S = 2.0
_LONGEST_RETRY_AFTER_S = 900.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer that was read to its end."""

    status: int
    body: bytes
    retry_after: str | None

    def fields(self) -> dict[str, Any]:
        """The body as a JSON object. Raises OutcomeUnknown when it is none."""
        try:
            fields = from_json(self.body)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise OutcomeUnknown("an answer that cannot be read")
        return fields


class HttpApi:
    """One account at one vendor's address. `headers` go with every request."""

    def __init__(self, base_url: str, headers: Mapping[str, str], *, timeout_s: float, concurrency: int) -> None:
        self.base_url = base_url.rstrip("/")
        self._headers = {**headers, "Accept-Encoding": "identity"}
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(CONNECT_S, timeout_s))
        self._concurrency = concurrency
        self._session: aiohttp.ClientSession | None = None

    async def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """Raises NotConnected, or OutcomeUnknown when the request may have been read."""
        return await self._request("POST", path, data=body, headers={**self._headers, **(headers or {})})

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Answer:
        """Raises NotConnected, or OutcomeUnknown when no answer came."""
        return await self._request("GET", path, params=query, headers=self._headers)

    async def _request(self, method: str, path: str, *, headers: Mapping[str, str], **rest: Any) -> Answer:
        sent = dict(headers)
        if (set_off_by := request_id()) != "":
            sent["X-Request-ID"] = set_off_by
        try:
            async with self._get_session().request(
                method, self.base_url + path, headers=sent, allow_redirects=False, **rest
            ) as response:
                return Answer(response.status, await response.read(), response.headers.get("Retry-After"))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise NotConnected(type(error).__name__) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise OutcomeUnknown(type(error).__name__) from None

    def _get_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout,
                connector=aiohttp.TCPConnector(limit=self._concurrency, keepalive_timeout=_KEEP_ALIVE_S),
                skip_auto_headers=("User-Agent", "Accept"),
            )
        return self._session

    async def close(self) -> None:
        """Frees the connections."""
        if self._session is not None:
            await self._session.close()


def basic(username: str, password: str) -> str:
    """The Authorization header of these credentials."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def is_host_of(url: str, *domains: str) -> bool:
    """Whether the address is one of these domains, or below one."""
    host = urlsplit(url).hostname or ""
    return any(host == domain or host.endswith("." + domain) for domain in domains)


def failure_of(answer: Answer, reason: str) -> SubmissionError:
    """What a whole answer means that says nothing of its messages."""
    told = f"{answer.status} {reason}".strip()
    if answer.status == 429 or (answer.status == 503 and answer.retry_after):
        return Throttled(told, seconds(answer.retry_after))
    if answer.status in (408, 409, 425) or answer.status >= 500 or answer.status < 300:
        return OutcomeUnknown(told)
    return AccountError(told)  # 401, 403; another address or a redirection is a matter of set-up too


def read_reason(answer: Answer, *names: str) -> str:
    """The vendor's word: the first of these fields, or the text itself when it is no JSON."""
    try:
        fields = from_json(answer.body)
        reason = next((str(fields[name]) for name in names if fields.get(name)), "")
    except (ValueError, AttributeError):
        reason = answer.body[:LONGEST_REASON].decode(errors="replace")
    return clean(reason)


def seconds(retry_after: str | None) -> float:
    """Retry-After in seconds, within bounds; a date counts as nothing said."""
    if retry_after and retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after), _LONGEST_RETRY_AFTER_S)
    return _RETRY_AFTER_S
