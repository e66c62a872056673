"""Is everything there: the gateway's word about itself and, for `/api/health/`, each service's about itself."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse

_TIMEOUT = aiohttp.ClientTimeout(total=2.0)
_KEPT_S = 1.0
_NOT_DEPENDENCIES = frozenset({"status", "detail", "code", "request_id"})


class ServiceHealth(BaseModel):
    """One service: `ok` or `unavailable`, why, and what it says of its own dependencies."""

    status: str
    detail: str | None = None
    dependencies: dict[str, str] = {}


class SystemHealth(BaseModel):
    """`ok` when every service is."""

    status: str
    services: dict[str, ServiceHealth]


class Health:
    """Asks the services, all at once, and keeps the answer a second. `urls` by service name."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = {service: url.rstrip("/") + "/health/ready" for service, url in urls.items()}
        self._lock = asyncio.Lock()
        self._told: SystemHealth | None = None
        self._told_at = 0.0

    async def check(self, session: aiohttp.ClientSession) -> SystemHealth:
        """Never raises: whoever cannot be asked is unavailable."""
        async with self._lock:
            if self._told is None or time.monotonic() >= self._told_at + _KEPT_S:
                lines = await asyncio.gather(*(_ask(session, url) for url in self._urls.values()))
                healthy = all(line.status == "ok" for line in lines)
                self._told = SystemHealth(
                    status="ok" if healthy else "unavailable", services=dict(zip(self._urls, lines, strict=True))
                )
                self._told_at = time.monotonic()
            return self._told


async def _ask(session: aiohttp.ClientSession, url: str) -> ServiceHealth:
    try:
        async with session.get(url, timeout=_TIMEOUT) as answer:
            body: Any = await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return ServiceHealth(status="unavailable", detail="The service does not answer.")
    said = body if isinstance(body, dict) else {}
    dependencies = {str(name): str(state) for name, state in said.items() if name not in _NOT_DEPENDENCIES}
    if answer.status == 200:
        return ServiceHealth(status="ok", dependencies=dependencies)
    detail = str(said.get("detail") or f"The service answered {answer.status}.")
    return ServiceHealth(status="unavailable", detail=detail, dependencies=dependencies)


router = APIRouter(tags=["health"])


@router.get(
    "/api/health/",
    response_model=SystemHealth,
    responses={503: {"model": SystemHealth, "description": "At least one service is unavailable."}},
)
async def read_health(request: Request) -> JSONResponse:
    """A line for each service and its dependencies. Needs no token."""
    state = request.app.state
    told = await state.health.check(state.proxy.session())
    return JSONResponse(told.model_dump(exclude_none=True), 200 if told.status == "ok" else 503)


@router.get("/health/live", include_in_schema=False)
@router.get("/health/ready", include_in_schema=False)
async def read_own_health() -> dict[str, str]:
    """The gateway holds nothing: while it answers it is live, and ready. Its neighbours' failures are 502s."""
    return {"status": "ok"}
