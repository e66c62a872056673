"""Rate limits with the library `limits`: in memory, or for all replicas together in Valkey."""

import ipaddress
import math
import time
from typing import Any

import structlog
from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerHour, RateLimitItemPerMinute
from limits import RateLimitItemPerSecond as PerSecond
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from valkey.asyncio import BlockingConnectionPool

from common.errors import Throttled
from gateway.settings import Settings

log = structlog.get_logger()

_PERIODS: dict[str, type[RateLimitItem]] = {
    "s": PerSecond,
    "m": RateLimitItemPerMinute,
    "h": RateLimitItemPerHour,
    "d": RateLimitItemPerDay,
}
_VALKEY_TIMEOUT_S = 1.0
_CONNECTIONS = 32
_CLEAN_UP_EVERY_S = 10.0
_RETRY_S = 2.0
_LOG_EVERY_S = 30.0

Bucket = tuple[str, str]


def parse_rate(rate: str) -> RateLimitItem:
    """Return the limit that a setting such as `100/min` means. The settings have checked its form."""
    amount, _, period = rate.partition("/")
    return _PERIODS[period[0]](int(amount))


class PeriodicMemory(MemoryStorage):
    """Counts in memory, and removes expired keys every 10 s.

    The library looks for expired keys at every hit. With thousands of addresses this costs more than the request.
    """

    _cleaned_at = -math.inf

    async def _MemoryStorage__schedule_expiry(self) -> None:  # noqa: N802  # the library's own, private name
        now = time.monotonic()
        if now >= self._cleaned_at + _CLEAN_UP_EVERY_S:
            self._cleaned_at = now
            await super()._MemoryStorage__schedule_expiry()  # type: ignore[misc]


class Throttles:
    """Counts requests in buckets: the name of a limit (`anon`, `user`, `sms`, `import`) and a user or an address.

    The window slides, so that a burst at the end of a minute counts in the next one. While Valkey is unavailable,
    requests are not counted, and a warning is logged every 30 s.
    """

    def __init__(self, settings: Settings) -> None:
        self._pool: BlockingConnectionPool | None = None
        storage: Storage = PeriodicMemory()
        if settings.valkey_url is not None:
            url = settings.valkey_url.get_secret_value()
            self._pool = BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS,
                timeout=_VALKEY_TIMEOUT_S,
                socket_timeout=_VALKEY_TIMEOUT_S,
                socket_connect_timeout=_VALKEY_TIMEOUT_S,
            )
            storage = RedisStorage(
                f"async+{url}",
                wrap_exceptions=True,
                implementation="valkey",
                connection_pool=self._pool,  # type: ignore[arg-type] # the library types its options too narrowly
            )
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._rates = {
            "anon": parse_rate(settings.throttle_rate_anon),
            "user": parse_rate(settings.throttle_rate_user),
            "sms": parse_rate(settings.throttle_rate_sms),
            "import": parse_rate(settings.throttle_rate_import),
        }
        self._unavailable_until = 0.0
        self._log_at = 0.0

    async def count(self, scope: Scope, *buckets: Bucket) -> None:
        """Count one request in each bucket. Raises Throttled when a limit is reached.

        `scope["rate_limit"]` gets the headers of the limit with the fewest requests left.
        """
        if time.monotonic() < self._unavailable_until:
            return
        try:
            await self._count(scope, buckets)
        except (StorageError, OSError) as error:
            now = time.monotonic()
            self._unavailable_until = now + _RETRY_S
            if now >= self._log_at:
                self._log_at = now + _LOG_EVERY_S
                log.warning("rate limits not counted", dependency="valkey", error=type(error).__name__)

    async def close(self) -> None:
        """Close the connections to Valkey."""
        if self._pool is not None:
            await self._pool.disconnect()

    async def _count(self, scope: Scope, buckets: tuple[Bucket, ...]) -> None:
        tightest: tuple[float, int, float] | None = None
        for name, counted in buckets:
            rate = self._rates[name]
            allowed = await self._limiter.hit(rate, name, counted)
            stats = await self._limiter.get_window_stats(rate, name, counted)
            reset = max(0.0, stats.reset_time - time.time())
            if tightest is None or stats.remaining <= tightest[0] or not allowed:
                tightest = stats.remaining, rate.amount, reset
                scope["rate_limit"] = _headers(*tightest)
            if not allowed:
                wait = max(1, math.ceil(reset))
                raise Throttled(f"Too many requests. Try again in {wait} s.", headers={"Retry-After": str(wait)})


def _headers(remaining: float, limit: int, reset: float) -> list[tuple[bytes, bytes]]:
    return [
        (b"ratelimit-limit", b"%d" % limit),
        (b"ratelimit-remaining", b"%d" % remaining),
        (b"ratelimit-reset", b"%d" % math.ceil(reset)),
    ]


def address_of(scope: Scope) -> str:
    """Return the address by which a request without a user is counted.

    An IPv6 address is counted by its /64, which belongs to one subscriber.
    """
    client: Any = scope.get("client")
    host = str(client[0]) if client else ""
    if ":" not in host:
        return host
    try:
        return str(ipaddress.ip_network((host.partition("%")[0], 64), strict=False))
    except ValueError:
        return host


class RateLimitHeaders:
    """ASGI middleware that adds the headers of `Throttles.count` to every answer, also to errors."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start" and "rate_limit" in scope:
                message["headers"] = [*message["headers"], *scope["rate_limit"]]
            await send(message)

        await self._app(scope, receive, send_with_limits)
