"""Render errors as HTTP answers, once, at the edge of the service."""

from collections.abc import Iterable
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match, Route

from common.context import request_id
from common.database import is_transient
from common.errors import AppError, Invalid, MethodNotAllowed, NotFound, ParseError, Unavailable

log = structlog.get_logger()


def render(error: AppError) -> JSONResponse:
    """Return the HTTP answer of an error."""
    return JSONResponse(error.body(request_id()), error.status, headers=error.headers)


def from_validation(problems: Iterable[dict[str, Any]]) -> AppError:
    """Return FastAPI's list of problems as one error with all fields. A problem in the path is NotFound."""
    fields: dict[str, list[str]] = {}
    for problem in problems:
        place, *path = problem["loc"]
        if place == "path":
            return NotFound()
        if problem["type"] == "json_invalid":
            return ParseError(f"The body is not valid JSON: {problem.get('ctx', {}).get('error', 'cannot be read')}.")
        names = [part for part in path if isinstance(part, str)]
        field = names[0] if names and problem["type"] != "model_attributes_type" else "non_field_errors"
        message = _sentence(problem)
        if message not in fields.setdefault(field, []):
            fields[field].append(message)
    return Invalid(fields=fields)


def _sentence(problem: dict[str, Any]) -> str:
    if problem["type"] == "missing":
        return "This field is required."
    if problem["type"] == "value_error":
        return str(problem.get("ctx", {}).get("error", problem["msg"]))
    if problem["type"] in ("string_type", "none_required") and problem.get("input", "") is None:
        return "This field may not be null."
    if problem["type"] == "bool_type":
        return "Enter true or false." if problem.get("input") is not None else "This field may not be null."
    message = str(problem["msg"])
    return message if message.endswith(".") else message + "."


def install(app: FastAPI) -> None:
    """Add the exception handlers to an application."""

    app.add_exception_handler(AppError, _on_app_error)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)


async def _on_app_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    return render(error)


async def _on_validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return render(from_validation(error.errors()))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = ", ".join(sorted(_methods(request)))
        return render(MethodNotAllowed(f"{request.method} is not allowed here.", headers={"Allow": allowed}))
    if error.status_code == 404:
        return render(NotFound())
    return JSONResponse({**AppError(str(error.detail)).body(request_id()), "code": "invalid"}, error.status_code)


def render_unexpected(error: Exception) -> Response:
    """Return 503 while the database is unavailable, else 500. The log has the whole error, the answer nothing of it."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    if is_transient(error) or state in ("57014", "25P04"):
        log.warning("dependency unavailable", error=type(error).__name__)
        return render(Unavailable(headers={"Retry-After": "1"}))
    log.error("request failed", exc_info=error)
    return render(AppError())


def _methods(request: Request) -> set[str]:
    """Return the methods that the routes of this path take."""
    found: set[str] = set()
    for route in all_routes(request.app.routes):
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return found


def all_routes(routes: Iterable[BaseRoute]) -> Iterable[BaseRoute]:
    """Return every route, also those of included routers, which FastAPI nests."""
    for route in routes:
        nested = getattr(route, "original_router", None)
        if nested is None:
            yield route
        else:
            yield from all_routes(nested.routes)
