"""The API's description: the merged OpenAPI document, and its two pages with nothing from elsewhere."""

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

_KEPT_S = 5.0
_TIMEOUT = aiohttp.ClientTimeout(total=3.0)
_ASSETS_URL = "/api/docs/assets"
# The files of Swagger UI and ReDoc come with this package; they are served from here, never from a CDN.
_ASSETS = Path(fastapi_offline.__file__).parent / "static"
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'; worker-src 'self' blob:; object-src 'none'; frame-ancestors 'none'"
}


class ApiDocument:
    """The merged document: the services are asked every few seconds, it is made anew when one of theirs has changed.

    A service that is away keeps its last description. `urls` by service name.
    """

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = {service: url.rstrip("/") + "/openapi.json" for service, url in urls.items()}
        self._parts: dict[str, bytes] = {}
        self._asked_at = -_KEPT_S
        self._made = b""
        self._lock = asyncio.Lock()

    async def read(self, session: aiohttp.ClientSession, own: Json) -> bytes:
        """The document as JSON; `own` describes the gateway's routes."""
        async with self._lock:
            if time.monotonic() >= self._asked_at + _KEPT_S:
                before = dict(self._parts)
                await asyncio.gather(*(self._ask(session, service) for service in self._urls))
                self._asked_at = time.monotonic()
                if not self._made or self._parts != before:
                    parts = {
                        service: json.loads(self._parts[service]) for service in self._urls if service in self._parts
                    }
                    self._made = json.dumps(merge({"gateway": own, **parts}), ensure_ascii=False).encode()
            return self._made

    async def _ask(self, session: aiohttp.ClientSession, service: str) -> None:
        try:
            async with session.get(self._urls[service], timeout=_TIMEOUT) as answer:
                answer.raise_for_status()
                body = await answer.read()
            json.loads(body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            log.warning("a service does not describe its routes", about=service, error=type(error).__name__)
            return
        self._parts[service] = body


router = APIRouter(tags=["docs"])


@router.get("/api/schema/", response_class=Response, responses={200: {"content": {"application/json": {}}}})
async def read_schema(request: Request) -> Response:
    """The OpenAPI 3.1 document of the whole API. Needs no token."""
    state = request.app.state
    body = await state.document.read(state.proxy.session(), request.app.openapi())
    return Response(body, media_type="application/json")


@router.get("/api/docs/", include_in_schema=False)
async def read_swagger_ui() -> HTMLResponse:
    """Swagger UI."""
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
    """ReDoc."""
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
    """Serves the pages' files."""
    app.mount(_ASSETS_URL, StaticFiles(directory=_ASSETS))
