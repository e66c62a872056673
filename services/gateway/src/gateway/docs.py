"""The API documentation: the merged OpenAPI document, and two pages that load no files from other hosts."""

import asyncio
import json
import time
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path

import aiohttp
import fastapi_offline
import structlog
from fastapi import APIRouter, FastAPI, Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from gateway.openapi import merge
from gateway.openapi_errors import Json
from gateway.v1.document import describe_v1

log = structlog.get_logger()

_CACHE_S = 5.0
_TIMEOUT = aiohttp.ClientTimeout(total=3.0)
_ASSETS_URL = "/api/docs/assets"
# This Python package contains the files of Swagger UI and ReDoc, so that no CDN is needed.
_ASSETS = Path(fastapi_offline.__file__).parent / "static"
_PAGES = Path(__file__).parent / "assets"
_REDOC_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self'; worker-src 'self' blob:; object-src 'none'; frame-ancestors 'none'"
}


class ApiDocument:
    """The merged OpenAPI document. `urls` are by service name.

    The services' documents are read at most every 5 s. They are merged again when one has changed, and on a new day,
    because examples have the next day as their time. The last document of an unavailable service stays in use.
    """

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = {service: url.rstrip("/") + "/openapi.json" for service, url in urls.items()}
        self._parts: dict[str, bytes] = {}
        self._read_at = -_CACHE_S
        self._merged = self._v1 = b""
        self._merged_on = date.min
        self._lock = asyncio.Lock()

    async def read(self, session: aiohttp.ClientSession, own: Json) -> bytes:
        """Return the document as JSON. `own` is the document of the gateway's own routes."""
        async with self._lock:
            if time.monotonic() >= self._read_at + _CACHE_S:
                before = dict(self._parts)
                await asyncio.gather(*(self._read_service(session, service) for service in self._urls))
                self._read_at = time.monotonic()
                today = datetime.now(UTC).date()
                if self._parts != before or self._merged_on != today:
                    parts = {
                        service: json.loads(self._parts[service]) for service in self._urls if service in self._parts
                    }
                    document = merge({"gateway": own, **parts}, today)
                    self._merged, self._merged_on = _encode(document), today
                    self._v1 = _encode(describe_v1(document))
            return self._merged

    async def read_v1(self, session: aiohttp.ClientSession, own: Json) -> bytes:
        """Return the document for clients of v1 as JSON."""
        await self.read(session, own)
        return self._v1

    async def _read_service(self, session: aiohttp.ClientSession, service: str) -> None:
        try:
            async with session.get(self._urls[service], timeout=_TIMEOUT) as answer:
                answer.raise_for_status()
                body = await answer.read()
            json.loads(body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            log.warning("api document unavailable", upstream=service, error=type(error).__name__)
            return
        self._parts[service] = body


def _encode(document: Json) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


router = APIRouter(tags=["docs"])


@router.get("/api/schema/", response_class=Response, responses={200: {"content": {"application/json": {}}}})
async def read_schema(request: Request) -> Response:
    """Read this document. It is OpenAPI 3.1 and describes the whole API. It needs no token."""
    state = request.app.state
    body = await state.document.read(state.proxy.session(), request.app.openapi())
    return Response(body, media_type="application/json")


@router.get("/api/v1/schema/", include_in_schema=False)
async def read_v1_schema(request: Request) -> Response:
    """Read the document for clients of v1. It needs no token."""
    state = request.app.state
    body = await state.document.read_v1(state.proxy.session(), request.app.openapi())
    return Response(body, media_type="application/json")


@router.get("/api/docs/", include_in_schema=False)
async def read_swagger_ui() -> Response:
    """Return the page of Swagger UI."""
    return FileResponse(_PAGES / "swagger.html", headers=_PAGE_HEADERS)


@router.get("/api/redoc/", include_in_schema=False)
async def read_redoc() -> Response:
    """Return the page of ReDoc."""
    return FileResponse(_PAGES / "redoc.html", headers=_PAGE_HEADERS)


@router.get(f"{_ASSETS_URL}/redoc.standalone.js", include_in_schema=False)
async def read_redoc_bundle() -> Response:
    """Return ReDoc without the address of the logo that it asks of another host. ReDoc then shows no logo."""
    return Response(_redoc_bundle(), media_type="text/javascript", headers={"Cache-Control": "max-age=3600"})


@cache
def _redoc_bundle() -> bytes:
    return (_ASSETS / "redoc.standalone.js").read_bytes().replace(_REDOC_LOGO, b"data:,")


def mount_assets(app: FastAPI) -> None:
    """Serve the files of the two pages."""
    app.mount(_ASSETS_URL, StaticFiles(directory=_ASSETS))
    app.mount("/api/docs/pages", StaticFiles(directory=_PAGES))
