"""The health of the gateway and, for `/api/health/`, of every service with its dependencies."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, ValidationError
from starlette.responses import JSONResponse

from common.events import FailureCategory
from common.http.health import HealthServer, Probes, serve_health
from common.http.server_limits import HttpLimits
from gateway.settings import Settings

# A process answers within the 0.5 s that it gives its own checks. The answer of the gateway arrives within a second.
_TIMEOUT = aiohttp.ClientTimeout(total=0.8)
_CACHE_S = 1.0

State = Literal["ok", "unavailable"]


class ProviderHealth(BaseModel):
    """Whether messages go to a provider. If not, since when, and the failure category of its last answer.

    `paused` means that an operator paused the provider. Its messages wait.
    """

    status: Literal["available", "unavailable", "paused"]
    failure_category: FailureCategory | None = None
    since: str | None = None


class ServiceHealth(BaseModel):
    """The health of one service: its processes, what they depend on, and what waits for them."""

    status: State
    detail: str | None = Field(None, description="why the service is unavailable")
    dependencies: dict[str, str] = Field(
        {}, description="`ok` or `unavailable` for the processes `api` and `worker`, and for `database` and `kafka`"
    )
    lag: dict[str, int] = Field({}, description="events that wait, by consumer group of the worker")
    providers: dict[str, ProviderHealth] | None = Field(
        None, description="providers of delivery by name; an unavailable one does not make the service unavailable"
    )


class SystemHealth(BaseModel):
    """The health of the system."""

    status: State = Field(description="`ok` when every service is")
    services: dict[str, ServiceHealth]


class Details(BaseModel):
    """What a process says about itself at `/health/details`."""

    api: State = "ok"
    worker: State = "ok"
    database: State
    kafka: State = "ok"
    lag: dict[str, int] = {}
    providers: dict[str, ProviderHealth] | None = None


@dataclass(frozen=True)
class Addresses:
    """The URLs of a service's API and of its worker's health."""

    api: str
    worker: str


def addresses(settings: Settings) -> dict[str, Addresses]:
    """Return the addresses of all services by name."""
    return {
        "contacts": Addresses(settings.contacts_url, settings.contacts_worker_url),
        "scheduling": Addresses(settings.scheduling_url, settings.scheduling_worker_url),
        "delivery": Addresses(settings.delivery_url, settings.delivery_worker_url),
    }


async def serve_metrics(settings: Settings) -> HealthServer | None:
    """Serve the metrics on a port of their own: the port of the API is public, and metrics are not."""
    if not settings.metrics_port:
        return None

    async def ready() -> tuple[int, dict[str, Any]]:
        return 200, await read_own_health()

    return await serve_health(
        Probes(ready),
        host=settings.bind_host,
        port=settings.metrics_port,
        limits=HttpLimits.of(settings),
        shared=settings.api_workers > 1,
    )


class Health:
    """Asks all processes at the same time and caches the result for a second. `addresses` are by service name."""

    def __init__(self, addresses: Mapping[str, Addresses]) -> None:
        self._addresses = addresses
        self._lock = asyncio.Lock()
        self._cached: SystemHealth | None = None
        self._cached_at = 0.0

    async def check(self, session: aiohttp.ClientSession) -> SystemHealth:
        """Return the health of the system. A process that does not answer is unavailable."""
        async with self._lock:
            if self._cached is None or time.monotonic() >= self._cached_at + _CACHE_S:
                found = await asyncio.gather(*(_check_service(session, one) for one in self._addresses.values()))
                is_healthy = all(service.status == "ok" for service in found)
                self._cached = SystemHealth(
                    status="ok" if is_healthy else "unavailable",
                    services=dict(zip(self._addresses, found, strict=True)),
                )
                self._cached_at = time.monotonic()
            return self._cached


async def _check_service(session: aiohttp.ClientSession, addresses: Addresses) -> ServiceHealth:
    api, worker = await asyncio.gather(_ask(session, addresses.api), _ask(session, addresses.worker))
    answers = [answer for answer in (api, worker) if answer is not None]
    dependencies: dict[str, str] = {
        "api": api.api if api is not None else "unavailable",
        "worker": worker.worker if worker is not None else "unavailable",
    }
    if answers:
        dependencies["database"] = _worst(answer.database for answer in answers)
    if worker is not None:
        dependencies["kafka"] = worker.kafka
    missing = [name for name, state in dependencies.items() if state != "ok"]
    return ServiceHealth(
        status="unavailable" if missing else "ok",
        detail=f"Unavailable: {', '.join(missing)}." if missing else None,
        dependencies=dependencies,
        lag=worker.lag if worker is not None else {},
        providers=worker.providers if worker is not None else None,
    )


def _worst(states: Iterable[State]) -> State:
    return "ok" if all(state == "ok" for state in states) else "unavailable"


async def _ask(session: aiohttp.ClientSession, url: str) -> Details | None:
    """Return what a process says about itself, or None when it does not answer."""
    try:
        async with session.get(f"{url.rstrip('/')}/health/details", timeout=_TIMEOUT) as answer:
            body: Any = await answer.json(content_type=None)
            return Details.model_validate(body) if answer.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, ValidationError):
        return None


router = APIRouter(tags=["health"])


@router.get(
    "/api/health/",
    response_model=SystemHealth,
    responses={503: {"model": SystemHealth, "description": "At least one service is unavailable."}},
)
async def read_health(request: Request) -> JSONResponse:
    """See whether the system works. The answer has every service and its dependencies. It needs no token."""
    state = request.app.state
    found = await state.health.check(state.proxy.session())
    return JSONResponse(found.model_dump(exclude_none=True), 200 if found.status == "ok" else 503)


@router.get("/health/live", include_in_schema=False)
@router.get("/health/started", include_in_schema=False)
@router.get("/health/ready", include_in_schema=False)
async def read_own_health() -> dict[str, str]:
    """Answer 200 whenever the gateway runs. It has no state, and failures of services are answered with 502."""
    return {"status": "ok"}
