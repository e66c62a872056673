"""The HTTP roof that services share: request ids, a log line per request, bounded bodies, errors, health."""

import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common import idempotency
from common.caller import Caller
from common.context import take_request_id
from common.errors import AppError, ParseError, TooLarge, UnsupportedMediaType
from common.http import errors
from common.http.deps import get_caller
from common.idempotency import Answer, KeyedRequest
from common.settings import CommonSettings

log = structlog.get_logger("http")

# In a POST's `openapi_extra`: it only computes, so it takes no idempotency key. The gateway's document leaves it out.
WITHOUT_EFFECT = "x-without-effect"
MAX_JSON_BYTES = 1_000_000
MAX_FILE_BYTES = 10 * 1024 * 1024
_MULTIPART_OVERHEAD = 65_536


class JsonRequest(Request):
    """A request whose JSON is bounded, and strict: no NaN, no endless depth, no lone surrogates."""

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            chunks, size = [], 0
            async for chunk in self.stream():
                size += len(chunk)
                if size > MAX_JSON_BYTES:
                    raise TooLarge(f"A body may have {MAX_JSON_BYTES:,} bytes at most.")
                chunks.append(chunk)
            self._body = b"".join(chunks) or b"{}"  # so that what is missing is told field by field
        return self._body

    async def json(self) -> Any:
        try:
            if not hasattr(self, "_json"):
                self._json = from_json(await self.body(), allow_inf_nan=False)
            return self._json
        except ValueError as error:
            raise ParseError(f"The body is not valid JSON: {error}.") from None


class JsonRoute(APIRoute):
    """A route that takes JSON says 415 to anything else, and reads it strictly. Routes with files are left alone.

    A POST with an `Idempotency-Key` runs in one transaction with the keeping of its answer.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        takes_json = self.body_field is not None and not self.dependant_takes_form()
        may_be_keyed = "POST" in (self.methods or ()) and self.path.startswith("/api/") and "webhooks" not in self.path
        may_be_keyed = may_be_keyed and WITHOUT_EFFECT not in (self.openapi_extra or {})

        async def handle_json(request: Request) -> Response:
            if takes_json:
                kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                if kind and kind != "application/json":
                    raise UnsupportedMediaType
                request = JsonRequest(request.scope, request.receive)
                await request.json()  # here, since FastAPI would turn every failure in there into one of its own
            else:
                request = Request(request.scope, _bounded(request.receive))
            key = request.headers.get("idempotency-key")
            if may_be_keyed and key is not None:
                return await _handle_keyed(request, key, handle)
            return await handle(request)

        return handle_json

    def dependant_takes_form(self) -> bool:
        return self.body_field is not None and type(self.body_field.field_info).__name__ in ("Form", "File")


def _bounded(receive: Receive) -> Receive:
    """Receives a body with a file in it. Raises TooLarge as soon as it is larger than the largest file."""
    received = 0

    async def receive_bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_FILE_BYTES + _MULTIPART_OVERHEAD:
            raise TooLarge("A file may have 10 MB at most.")
        return message

    return receive_bounded


class _WithoutEffect(Exception):
    """Carries an answer out of the transaction that it rolls back."""

    def __init__(self, response: Response) -> None:
        self.response = response


async def _handle_keyed(request: Request, key: str, handle: Callable[[Request], Awaitable[Response]]) -> Response:
    """Runs the request once under its key (api.md, Idempotency); what had no effect does not use the key up."""
    caller: Caller = await get_caller(request)
    route = request.scope["route"].path_format.format(**request.path_params)
    keyed = KeyedRequest(caller.organisation_id, route, idempotency.check_key(key), await _hash_body(request))
    try:
        async with request.app.state.database.tenant(caller.organisation_id) as session:
            first = await idempotency.begin(session, keyed, request.app.state.settings.service)
            if first is not None:
                headers = {"Idempotent-Replayed": "true"}
                return Response(first.body, first.status, headers, media_type=first.content_type)
            request.scope["keyed_session"] = session
            response = await handle(request)
            if response.status_code >= 400:
                raise _WithoutEffect(response)
            kind = response.headers.get("content-type", "")
            await idempotency.keep(session, keyed, Answer(response.status_code, kind, bytes(response.body)))
            return response
    except _WithoutEffect as end:
        return end.response
    finally:
        await request.close()


async def _hash_body(request: Request) -> bytes:
    """The same bytes, or of multipart the same parts, whatever their boundary."""
    chunks: list[bytes] = [request.url.query.encode()]
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return idempotency.hash_chunks([*chunks, await request.body()])
    for name, value in (await request.form()).multi_items():
        chunks.append(name.encode())
        if isinstance(value, str):
            chunks.append(value.encode())
            continue
        chunks.append((value.filename or "").encode())
        while chunk := await value.read(1 << 20):
            chunks.append(hashlib.sha256(chunk).digest())
        await value.seek(0)
    return idempotency.hash_chunks(chunks)


class RequestLog:
    """ASGI middleware: takes or makes the request id, returns it, and writes one line per request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/health/"):
            await self._app(scope, receive, send)
            return
        given = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"x-request-id"), None)
        request_id = take_request_id(given)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started, status = time.perf_counter(), 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                kept = [header for header in message["headers"] if header[0].lower() != b"x-request-id"]
                message["headers"] = [*kept, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            route = scope.get("route")
            log.info(
                "request",
                method=scope["method"],
                route=getattr(route, "path", scope.get("route_template", "-")),
                status=status,
                ms=round((time.perf_counter() - started) * 1000, 1),
                **scope.get("caller_log", {}),
            )


class RenderErrors:
    """Inside the request log: what the handlers did not render (a failing commit, say) still gets an answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except AppError as error:
            await errors.render(error)(scope, receive, send)
        except Exception as error:
            await errors.unforeseen(error)(scope, receive, send)


def make_app(
    settings: CommonSettings,
    routers: Sequence[APIRouter],
    *,
    state: dict[str, Any],
    ready: Callable[[], Awaitable[None]],
    close: Sequence[Callable[[], Awaitable[None]]] = (),
) -> FastAPI:
    """A service's application. `state` is put on `app.state`; `ready` raises Unavailable when a need is not met."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        log.info("api is ready", port=settings.port)
        yield
        for step in close:
            await step()

    app = FastAPI(
        title=f"Cooee {settings.service}",
        lifespan=lifespan,
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        strict_content_type=False,
    )
    app.state.settings = settings
    for name, value in state.items():
        setattr(app.state, name, value)
    errors.install(app)
    for router in routers:
        app.include_router(router)

    @app.get("/health/live", include_in_schema=False)
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/health/ready", include_in_schema=False)
    async def ready_route() -> dict[str, str]:
        await ready()
        return {"status": "ok", "database": "ok"}

    app.add_middleware(RenderErrors)
    app.add_middleware(RequestLog)
    return app


def feature_router(tag: str) -> APIRouter:
    """The router of a feature: strict JSON, one tag."""
    return APIRouter(route_class=JsonRoute, tags=[tag])
