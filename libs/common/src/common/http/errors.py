"""Failures are rendered once, at the door: api.md, Errors."""

from collections.abc import Iterable
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match, Route

from common.context import request_id
from common.database import is_passing
from common.errors import AppError, Invalid, MethodNotAllowed, NotFound, ParseError, Unavailable

log = structlog.get_logger()


def render(error: AppError) -> JSONResponse:
    """The HTTP answer of a failure."""
    return JSONResponse(error.body(request_id()), error.status, headers=error.headers)


def from_validation(problems: Iterable[dict[str, Any]]) -> AppError:
    """FastAPI's list of problems as one failure: by field, all of them; a path that fits nothing is not found."""
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
    message = str(problem["msg"])
    return message if message.endswith(".") else message + "."


def install(app: FastAPI) -> None:
    """Adds the handlers. What nobody foresaw is logged whole and told as 500 without a word of its inside."""

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


def unforeseen(error: Exception) -> Response:
    """503 while the database is away, else 500; the failure is logged whole."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    if is_passing(error) or state in ("57014", "25P04"):
        log.warning("a need is not met", error=type(error).__name__)
        return render(Unavailable())
    log.error("request failed", exc_info=error)
    return render(AppError())


def _methods(request: Request) -> set[str]:
    """Every method that some route takes at this path."""
    found: set[str] = set()
    for route in all_routes(request.app.routes):
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return found


def all_routes(routes: Iterable[BaseRoute]) -> Iterable[BaseRoute]:
    """Every route, those of included routers too: FastAPI keeps them nested."""
    for route in routes:
        nested = getattr(route, "original_router", None)
        if nested is None:
            yield route
        else:
            yield from all_routes(nested.routes)
