"""The health of the gateway and, for `/api/health/`, of every service with its dependencies."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Literal

import aiohttp
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

_TIMEOUT = aiohttp.ClientTimeout(total=2.0)
_CACHE_S = 1.0
_NOT_DEPENDENCIES = frozenset({"status", "detail", "code", "request_id"})


class ServiceHealth(BaseModel):
    """The health of one service, and of its dependencies as the service reports them."""

    status: Literal["ok", "unavailable"]
    detail: str | None = Field(None, description="why the service is unavailable")
    dependencies: dict[str, str] = Field({}, description="status of each dependency, such as `database`")


class SystemHealth(BaseModel):
    """The health of the system."""

    status: Literal["ok", "unavailable"] = Field(description="`ok` when every service is")
    services: dict[str, ServiceHealth]


class Health:
    """Asks all services at the same time and caches the result for a second. `urls` are by service name."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = {service: url.rstrip("/") + "/health/ready" for service, url in urls.items()}
        self._lock = asyncio.Lock()
        self._cached: SystemHealth | None = None
        self._cached_at = 0.0

    async def check(self, session: aiohttp.ClientSession) -> SystemHealth:
        """Return the health of the system. A service that does not answer is unavailable."""
        async with self._lock:
            if self._cached is None or time.monotonic() >= self._cached_at + _CACHE_S:
                found = await asyncio.gather(*(_check_service(session, url) for url in self._urls.values()))
                is_healthy = all(service.status == "ok" for service in found)
                self._cached = SystemHealth(
                    status="ok" if is_healthy else "unavailable", services=dict(zip(self._urls, found, strict=True))
                )
                self._cached_at = time.monotonic()
            return self._cached


async def _check_service(session: aiohttp.ClientSession, url: str) -> ServiceHealth:
    try:
        async with session.get(url, timeout=_TIMEOUT) as answer:
            body: Any = await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return ServiceHealth(status="unavailable", detail="The service does not answer.")
    reported = body if isinstance(body, dict) else {}
    dependencies = {str(name): str(state) for name, state in reported.items() if name not in _NOT_DEPENDENCIES}
    if answer.status == 200:
        return ServiceHealth(status="ok", dependencies=dependencies)
    detail = str(reported.get("detail") or f"The service answered {answer.status}.")
    return ServiceHealth(status="unavailable", detail=detail, dependencies=dependencies)


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
@router.get("/health/ready", include_in_schema=False)
async def read_own_health() -> dict[str, str]:
    """Answer 200 whenever the gateway runs. It has no state, and failures of services are answered with 502."""
    return {"status": "ok"}
