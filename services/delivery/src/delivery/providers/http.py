"""What the HTTP interfaces of the providers have in common: one session, and the meaning of a failed request.

Without a connection nothing was sent (NotConnected). After the request was written, only an answer says what the
provider did with it (OutcomeUnknown).
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from pydantic_core import from_json

from common.context import request_id
from delivery.providers.base import AccountError, NotConnected, OutcomeUnknown, SubmissionError, Throttled
from delivery.providers.webhook_parsing import MAX_TEXT, storable_text

CONNECT_S = 3.0
UNREADABLE = "The answer cannot be read."
# Shorter than the servers' own time, so a request rarely meets a connection that the server is closing.
_KEEP_ALIVE_S = 15.0
_DEFAULT_RETRY_AFTER_S = 2.0
_MAX_RETRY_AFTER_S = 900.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer."""

    status: int
    body: bytes
    retry_after: str | None

    def fields(self) -> dict[str, Any]:
        """Return the body as a JSON object. Raises OutcomeUnknown if it is not one."""
        try:
            fields = from_json(self.body)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise OutcomeUnknown(UNREADABLE)
        return fields


class HttpApi:
    """The HTTP interface of one provider with one account. `headers` are sent with every request."""

    def __init__(self, base_url: str, headers: Mapping[str, str], *, timeout_s: float, concurrency: int) -> None:
        self.base_url = base_url.rstrip("/")
        self._headers = {**headers, "Accept-Encoding": "identity"}
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(CONNECT_S, timeout_s))
        self._concurrency = concurrency
        self._session: aiohttp.ClientSession | None = None

    async def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a POST request. Raises NotConnected, or OutcomeUnknown if the provider may have read the request."""
        return await self._request("POST", path, data=body, headers={**self._headers, **(headers or {})})

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Answer:
        """Send a GET request. Raises NotConnected, or OutcomeUnknown if there was no answer."""
        return await self._request("GET", path, params=query, headers=self._headers)

    async def _request(self, method: str, path: str, *, headers: Mapping[str, str], **rest: Any) -> Answer:
        sent = dict(headers)
        if current := request_id():
            sent["X-Request-ID"] = current
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
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


def basic(username: str, password: str) -> str:
    """Return the Authorization header for HTTP Basic authentication."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def is_host_of(url: str, *domains: str) -> bool:
    """Return whether the host of an address is one of these domains, or a subdomain of one."""
    host = urlsplit(url).hostname or ""
    return any(host == domain or host.endswith("." + domain) for domain in domains)


def error_of(answer: Answer, reason: str) -> SubmissionError:
    """Return the error that an answer stands for which says nothing about the single messages."""
    text = f"{answer.status} {reason}".strip()
    if answer.status == 429 or (answer.status == 503 and answer.retry_after):
        return Throttled(text, seconds(answer.retry_after))
    if answer.status in (408, 409, 425) or answer.status >= 500 or answer.status < 300:
        return OutcomeUnknown(text)
    return AccountError(text)  # 401 and 403; an unknown path or a redirect is an error of our set-up, too


def read_reason(answer: Answer, *names: str) -> str:
    """Return the provider's explanation: the first of these JSON fields, or the whole text if it is not JSON."""
    try:
        fields = from_json(answer.body)
        reason = next((str(fields[name]) for name in names if fields.get(name)), "")
    except (ValueError, AttributeError):
        reason = answer.body[:MAX_TEXT].decode(errors="replace")
    return storable_text(reason)


def seconds(retry_after: str | None) -> float:
    """Return a Retry-After header as seconds, at most 15 minutes. A date or no header counts as 2 seconds."""
    if retry_after and retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after), _MAX_RETRY_AFTER_S)
    return _DEFAULT_RETRY_AFTER_S
