"""How often: rate limits with the `limits` library, in memory or, for all replicas together, in Valkey."""

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
_SWEEP_S = 10.0
_AWAY_S = 2.0
_SAY_AGAIN_S = 30.0

Bucket = tuple[str, str]


def parse_rate(rate: str) -> RateLimitItem:
    """`100/min` as a limit; the settings have checked its form."""
    amount, _, period = rate.partition("/")
    return _PERIODS[period[0]](int(amount))


class SweptMemory(MemoryStorage):
    """Removes what has expired every few seconds. The library goes through all keys at every hit: with some thousands
    of addresses that costs more than the request itself.
    """

    _swept_at = -math.inf

    async def _MemoryStorage__schedule_expiry(self) -> None:  # noqa: N802  # the library's own, private name
        now = time.monotonic()
        if now >= self._swept_at + _SWEEP_S:
            self._swept_at = now
            await super()._MemoryStorage__schedule_expiry()  # type: ignore[misc]


class Throttles:
    """Counts requests by bucket: a scope (`anon`, `user`, `sms`, `import`) and whom it counts for.

    A sliding window, so that a burst around the turn of a minute gets no second helping. While Valkey is away,
    requests pass and that is logged every half a minute.
    """

    def __init__(self, settings: Settings) -> None:
        self._pool: BlockingConnectionPool | None = None
        storage: Storage = SweptMemory()
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
        self._away_until = 0.0
        self._say_at = 0.0

    async def count(self, scope: Scope, *buckets: Bucket) -> None:
        """Counts one request in each bucket, and leaves the headers of the tightest in `scope`. Raises Throttled."""
        if time.monotonic() < self._away_until:
            return
        try:
            await self._count(scope, buckets)
        except (StorageError, OSError) as error:
            now = time.monotonic()
            self._away_until = now + _AWAY_S
            if now >= self._say_at:
                self._say_at = now + _SAY_AGAIN_S
                log.warning("rate limits are not counted: Valkey is away", error=type(error).__name__)

    async def close(self) -> None:
        """Closes the connections to Valkey."""
        if self._pool is not None:
            await self._pool.disconnect()

    async def _count(self, scope: Scope, buckets: tuple[Bucket, ...]) -> None:
        tightest: tuple[float, int, float] | None = None
        for name, whom in buckets:
            rate = self._rates[name]
            allowed = await self._limiter.hit(rate, name, whom)
            stats = await self._limiter.get_window_stats(rate, name, whom)
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
    """Whom an anonymous request counts for: the address, of IPv6 the /64 that one subscriber has."""
    client: Any = scope.get("client")
    host = str(client[0]) if client else ""
    if ":" not in host:
        return host
    try:
        return str(ipaddress.ip_network((host.partition("%")[0], 64), strict=False))
    except ValueError:
        return host


class RateLimitHeaders:
    """ASGI middleware: what `Throttles.count` left goes on every answer, also on failures."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start" and "rate_limit" in scope:
                message["headers"] = [*message["headers"], *scope["rate_limit"]]
            await send(message)

        await self._app(scope, receive, send_with_limits)
