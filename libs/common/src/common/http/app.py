"""The HTTP application that services share: request ids, request logs, bounded bodies, errors, health."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from common import idempotency, metrics
from common.caller import Caller, CallerVerifier
from common.errors import AppError
from common.http import errors
from common.http.deps import get_caller
from common.http.health import state_of
from common.http.lean import LeanRoutes
from common.http.request_log import RequestLog
from common.http.requests import JsonRequest, bounded_receive, check_json
from common.idempotency import Answer, KeyedRequest
from common.settings import CommonSettings

log = structlog.get_logger("http")

# FastAPI's own telemetry has queries and the messages of exceptions, which may have phones and texts. `common.tracing`
# makes the spans of requests.
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}

# A POST with this in its `openapi_extra` only computes, so it takes no idempotency key. The gateway removes the mark
# from its API document.
WITHOUT_EFFECT = "x-without-effect"


class JsonRoute(APIRoute):
    """A route that reads JSON strictly and answers other media types with 415. Routes with files are not changed.

    A POST with an `Idempotency-Key` runs in one transaction with the saving of its answer.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        takes_json = self.body_field is not None and not self.dependant_takes_form()
        may_be_keyed = "POST" in (self.methods or ()) and self.path.startswith("/api/") and "webhooks" not in self.path
        may_be_keyed = may_be_keyed and WITHOUT_EFFECT not in (self.openapi_extra or {})

        async def handle_json(request: Request) -> Response:
            if takes_json:
                check_json(request)
                request = JsonRequest(request.scope, request.receive)
                await request.json()  # FastAPI would replace an error raised later by its own
            else:
                request = Request(request.scope, bounded_receive(request.receive))
            key = request.headers.get("idempotency-key")
            if may_be_keyed and key is not None:
                return await _handle_keyed(request, key, handle)
            return await handle(request)

        return handle_json

    def dependant_takes_form(self) -> bool:
        return self.body_field is not None and type(self.body_field.field_info).__name__ in ("Form", "File")


class _WithoutEffect(Exception):
    """Rolls back the transaction of a keyed request that had no effect. Carries its answer."""

    def __init__(self, response: Response) -> None:
        self.response = response


async def _handle_keyed(request: Request, key: str, handle: Callable[[Request], Awaitable[Response]]) -> Response:
    """Run the request once under its key. A request without effect does not use up the key.

    The transaction takes a connection at its first statement. So a request that calls other services first, as all do,
    holds none meanwhile.
    """
    caller: Caller = await get_caller(request)
    route = request.scope["route"].path_format.format(**request.path_params)
    keyed = KeyedRequest(caller.organisation_id, route, idempotency.check_key(key), await _hash_body(request))
    database = request.app.state.database
    try:
        async with idempotency.claimed(keyed, database) as (claim, first):
            if first is not None:
                headers = {"Idempotent-Replayed": "true"} | ({"Location": first.location} if first.location else {})
                return Response(first.body, first.status, headers, media_type=first.content_type)
            async with database.tenant(caller.organisation_id) as session:
                request.scope["keyed_session"] = session
                response = await handle(request)
                if response.status_code >= 400:
                    raise _WithoutEffect(response)
                answer = Answer(
                    status=response.status_code,
                    content_type=response.headers.get("content-type", ""),
                    location=response.headers.get("location"),
                    body=bytes(response.body),
                )
                await claim.save(session, answer)
            claim.is_used = True
            return response
    except _WithoutEffect as end:
        return end.response
    finally:
        await request.close()


async def _hash_body(request: Request) -> bytes:
    """Hash the bytes of a body, or the parts of a multipart body whatever its boundary is."""
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


class RenderErrors:
    """ASGI middleware inside the request log: answers errors that no handler rendered, such as a failed commit."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except AppError as error:
            await errors.render(error)(scope, receive, send)
        except ClientDisconnect:
            pass  # nobody reads an answer
        except Exception as error:
            await errors.render_unexpected(error)(scope, receive, send)


def make_app(
    settings: CommonSettings,
    routers: Sequence[APIRouter],
    *,
    state: dict[str, Any],
    ready: Callable[[], Awaitable[None]],
    close: Sequence[Callable[[], Awaitable[None]]] = (),
) -> FastAPI:
    """Return a service's application.

    `state` becomes attributes of `app.state`. `ready` raises Unavailable while a dependency is missing.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        log.info("api ready", port=settings.port)
        yield
        log.info("api stopping", port=settings.port)
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
        telemetry=NO_TELEMETRY,
    )
    app.state.settings = settings
    app.state.caller_verifier = CallerVerifier(
        audience=settings.service, secret=settings.internal_token_secret.get_secret_value()
    )
    for name, value in state.items():
        setattr(app.state, name, value)
    errors.install(app)
    for router in routers:
        app.include_router(router)

    _add_health(app, ready)
    app.add_middleware(LeanRoutes, of=app)
    app.add_middleware(RenderErrors)
    app.add_middleware(RequestLog, service=settings.service, not_logged=("/health/", "/metrics"))
    return app


def _add_health(app: FastAPI, ready: Callable[[], Awaitable[None]]) -> None:
    """Add the routes for probes and for Prometheus. The gateway forwards no request to them."""

    @app.get("/health/live", include_in_schema=False)
    @app.get("/health/started", include_in_schema=False)
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/health/ready", include_in_schema=False)
    async def ready_route() -> dict[str, str]:
        await ready()
        return {"status": "ok", "database": "ok"}

    @app.get("/health/details", include_in_schema=False)
    async def details() -> dict[str, str]:
        return {"api": "ok", "database": await state_of(ready())}

    @app.get("/metrics", include_in_schema=False)
    async def read_metrics() -> Response:
        return Response(metrics.render(), media_type=metrics.CONTENT_TYPE)


def feature_router(tag: str) -> APIRouter:
    """Return the router of a feature, with strict JSON and one tag."""
    return APIRouter(route_class=JsonRoute, tags=[tag])
