"""The API documentation: the merged OpenAPI document, and two pages that load no files from other hosts."""

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import fastapi_offline
import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from gateway.openapi import Json, merge

log = structlog.get_logger()

_CACHE_S = 5.0
_TIMEOUT = aiohttp.ClientTimeout(total=3.0)
_ASSETS_URL = "/api/docs/assets"
# This Python package contains the files of Swagger UI and ReDoc, so that no CDN is needed.
_ASSETS = Path(fastapi_offline.__file__).parent / "static"
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'; worker-src 'self' blob:; object-src 'none'; frame-ancestors 'none'"
}


class ApiDocument:
    """The merged OpenAPI document. `urls` are by service name.

    The services' documents are read at most every 5 s, and merged again when one has changed. The last document of an
    unavailable service stays in use.
    """

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = {service: url.rstrip("/") + "/openapi.json" for service, url in urls.items()}
        self._parts: dict[str, bytes] = {}
        self._read_at = -_CACHE_S
        self._merged = b""
        self._lock = asyncio.Lock()

    async def read(self, session: aiohttp.ClientSession, own: Json) -> bytes:
        """Return the document as JSON. `own` is the document of the gateway's own routes."""
        async with self._lock:
            if time.monotonic() >= self._read_at + _CACHE_S:
                before = dict(self._parts)
                await asyncio.gather(*(self._read_service(session, service) for service in self._urls))
                self._read_at = time.monotonic()
                if not self._merged or self._parts != before:
                    parts = {
                        service: json.loads(self._parts[service]) for service in self._urls if service in self._parts
                    }
                    self._merged = json.dumps(merge({"gateway": own, **parts}), ensure_ascii=False).encode()
            return self._merged

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


router = APIRouter(tags=["docs"])


@router.get("/api/schema/", response_class=Response, responses={200: {"content": {"application/json": {}}}})
async def read_schema(request: Request) -> Response:
    """Get the OpenAPI 3.1 document of the whole API. Needs no token."""
    state = request.app.state
    body = await state.document.read(state.proxy.session(), request.app.openapi())
    return Response(body, media_type="application/json")


@router.get("/api/docs/", include_in_schema=False)
async def read_swagger_ui() -> HTMLResponse:
    """Return the page of Swagger UI."""
    page = get_swagger_ui_html(
        openapi_url="/api/schema/",
        title="Cooee API",
        swagger_js_url=f"{_ASSETS_URL}/swagger-ui-bundle.js",
        swagger_css_url=f"{_ASSETS_URL}/swagger-ui.css",
        swagger_favicon_url=f"{_ASSETS_URL}/favicon.png",
        swagger_ui_parameters={"validatorUrl": None, "persistAuthorization": True},
    )
    page.headers.update(_PAGE_HEADERS)
    return page


@router.get("/api/redoc/", include_in_schema=False)
async def read_redoc() -> HTMLResponse:
    """Return the page of ReDoc."""
    page = get_redoc_html(
        openapi_url="/api/schema/",
        title="Cooee API",
        redoc_js_url=f"{_ASSETS_URL}/redoc.standalone.js",
        redoc_favicon_url=f"{_ASSETS_URL}/favicon.png",
        with_google_fonts=False,
    )
    page.headers.update(_PAGE_HEADERS)
    return page


def mount_assets(app: FastAPI) -> None:
    """Serve the files of the two pages."""
    app.mount(_ASSETS_URL, StaticFiles(directory=_ASSETS))
