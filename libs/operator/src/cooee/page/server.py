"""The web application of the operators' page, its routes, its errors and its server."""

import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from common.errors import AppError, Unauthenticated
from common.http.server_limits import HttpLimits, server_options
from cooee.errors import CommandError, ExitCode, WrongSettings
from cooee.output import printable
from cooee.page import action_views, views
from cooee.page.context import AppContext, context_of
from cooee.page.gate import Gate
from cooee.page.settings import PageSettings
from cooee.stack import Stack

log = structlog.get_logger()

_View = Callable[[Request], Awaitable[Response]]
_ASSETS = Path(__file__).parent / "assets"
_STATUS = {
    ExitCode.USAGE: 400,
    ExitCode.NOT_FOUND: 404,
    ExitCode.REFUSED: 409,
    ExitCode.UNREACHABLE: 503,
    ExitCode.SETTINGS: 503,
}
_TITLES = {
    400: "Invalid request",
    401: "Sign in",
    403: "Not allowed",
    404: "Not found",
    405: "Not allowed",
    409: "Refused",
    413: "Too large",
    415: "Unsupported format",
    503: "Not available",
}
_READS: tuple[tuple[str, _View], ...] = (
    ("/", views.show_overview),
    ("/organisations", views.list_organisations),
    ("/organisation", views.open_organisation),
    ("/organisations/{organisation}", views.show_organisation),
    ("/messages", views.search_messages),
    ("/message", views.open_message),
    ("/messages/{number:id}", views.show_history),
    ("/schedules/{number:id}", views.show_history),
    ("/dead-letters", views.list_dead_letters),
    ("/dead-letters/{service}/{number:id}", views.show_dead_letter),
    ("/stuck", views.show_stuck),
    ("/inbound", views.list_inbound),
    ("/audit", views.list_audit),
    ("/actions/{name}", action_views.show_action),
    ("/sign-in", action_views.show_sign_in),
)
_CHANGES: tuple[tuple[str, _View], ...] = (
    ("/actions/{name}", action_views.run),
    ("/messages/{number:id}", action_views.unmask_history),
    ("/schedules/{number:id}", action_views.unmask_history),
    ("/dead-letters/{service}/{number:id}", action_views.unmask_dead_letter),
    ("/sign-in", action_views.sign_in),
    ("/sign-out", action_views.sign_out),
)


class _IdConvertor(IntegerConvertor):
    """An id in a path. Starlette's own convertor raises an error for thousands of digits."""

    regex = "[0-9]{1,19}"


register_url_convertor("id", _IdConvertor())


def create_page(settings: PageSettings, stack: Stack) -> ASGIApp:
    """Return the application."""
    context = AppContext.of(settings, stack)
    app = Starlette(
        routes=[
            *(Route(path, _guarded(view), methods=["GET"]) for path, view in _READS),
            *(Route(path, _guarded(view), methods=["POST"]) for path, view in _CHANGES),
            Route("/health/live", _live),
            Route("/health/ready", _live),
            Mount("/assets", StaticFiles(directory=_ASSETS)),
        ],
        exception_handlers={
            AppError: _show_app_error,
            CommandError: _show_command_error,
            HTTPException: _show_http_error,
            Exception: _show_unexpected,
        },
    )
    # A redirect would name the host of the request, which may be another's.
    app.router.redirect_slashes = False
    app.state.context = context
    return Gate(app, settings, context.sessions, context.cookies)


def _guarded(view: _View) -> _View:
    """Return a view that first raises why its request is refused."""

    async def view_if_allowed(request: Request) -> Response:
        if request.state.refusal is not None:
            raise request.state.refusal
        return await view(request)

    return view_if_allowed


async def _live(_: Request) -> Response:
    return PlainTextResponse("ok")


async def _show_app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    sentence = error.detail if not error.fields else "; ".join(f"{k}: {' '.join(v)}" for k, v in error.fields.items())
    if isinstance(error, Unauthenticated) or request.url.path == "/sign-in":
        return action_views.sign_in_page(request, sentence, error.status)
    return _error_page(request, error.status, sentence)


async def _show_command_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, CommandError)
    return _error_page(request, _STATUS.get(error.code, 500), str(error))


async def _show_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if request.state.refusal is not None:  # a path that does not exist says no more than one that does
        return await _show_app_error(request, request.state.refusal)
    return _error_page(request, error.status_code, str(error.detail))


async def _show_unexpected(request: Request, error: Exception) -> Response:
    log.error("page failed", path=request.url.path, error=type(error).__name__)
    return _error_page(request, 500, "Cooee failed. Look for `page failed` in the log of `cooee page`.")


def _error_page(request: Request, status: int, sentence: str) -> Response:
    title = _TITLES.get(status, "An error")
    return context_of(request).render(request, "error.html", status=status, title=title, sentence=printable(sentence))


async def serve(settings: PageSettings, stack: Stack) -> None:
    """Serve the page until SIGINT or SIGTERM."""
    config = uvicorn.Config(
        create_page(settings, stack),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=10,
        **server_options(HttpLimits()),
    )
    await _Server(config, settings.origins[0]).serve([_listen(settings)])


def _listen(settings: PageSettings) -> socket.socket:
    """Return the socket of the page. Raises WrongSettings when its port cannot be used."""
    address = settings.bind_host, settings.operators_port
    family = socket.AF_INET6 if ":" in settings.bind_host else socket.AF_INET
    try:
        return socket.create_server(address, family=family)
    except OSError as error:
        where = f"{settings.bind_host}:{settings.operators_port}"
        raise WrongSettings(f"the operators' page cannot listen on {where}: {error.strerror or error}") from None


class _Server(uvicorn.Server):
    """A server that prints its address when it listens."""

    def __init__(self, config: uvicorn.Config, address: str) -> None:
        super().__init__(config)
        self._address = address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(f"operators' page: {self._address}/", file=sys.stderr, flush=True)  # noqa: T201  # a person reads it, not the log
