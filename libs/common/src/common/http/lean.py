"""Serve routes without FastAPI's dependency solver, where a route allows it.

FastAPI spends 200 to 450 µs of a request on its router, exit stacks and solver. A route is *lean* when its endpoint
returns a rendered Response and everything that it needs can be read from the request. This module then calls the
endpoint with arguments that it supplies itself. FastAPI still builds the documentation from the same signature. It also
still serves all other routes, and every request with an idempotency key. Both ways give the same answers.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request, Response
from fastapi._compat import field_annotation_is_sequence
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security.base import SecurityBase
from starlette.types import ASGIApp, Receive, Scope, Send

from common.http.errors import all_routes, from_validation
from common.http.requests import JsonRequest, check_json

# A POST with one of these headers needs more than its endpoint: a saved answer, or a wait for an outcome.
_SERVED_BY_FASTAPI = (b"idempotency-key", b"prefer")
Given = Mapping[str, Mapping[str, Any]]


@dataclass(slots=True)
class Plan:
    """How the arguments of an endpoint or a dependency are read from a request.

    `fields` are pairs of a location and FastAPI's field. `lists` is the location of query parameters that are lists.
    `ignored` are arguments that exist for the documentation only.
    """

    call: Callable[..., Awaitable[Any]]
    fields: list[tuple[str, Any]] = field(default_factory=list)
    dependencies: list[tuple[str, "Plan"]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    body: Any = None
    request_name: str | None = None

    async def run(self, request: Request, given: Given, found: dict[Any, Any]) -> Any:
        """Call the endpoint or dependency. `found` has the results of dependencies that were called before.

        Raises Invalid with every problem of its own arguments, and what the call itself raises.
        """
        arguments = Arguments(dict.fromkeys(self.ignored))
        if self.request_name is not None:
            arguments.values[self.request_name] = request
        for name, plan in self.dependencies:
            if plan.call not in found:
                found[plan.call] = await plan.run(request, given, found)
            arguments.values[name] = found[plan.call]
        for location, wanted in self.fields:
            arguments.read(wanted, location, given[location])
        if self.body is not None:
            arguments.validate(self.body, await request.json(), ("body",))
        if arguments.problems:
            raise from_validation(arguments.problems)
        return await self.call(**arguments.values)


@dataclass(slots=True)
class Arguments:
    """The arguments of one call as they are read, and what is wrong with them."""

    values: dict[str, Any]
    problems: list[dict[str, Any]] = field(default_factory=list)

    def read(self, wanted: Any, location: str, given: Mapping[str, Any]) -> None:
        """Read a field from the path or the query, or take its default."""
        name = wanted.alias
        if name in given:
            self.validate(wanted, given[name], (location, name))
        elif wanted.field_info.is_required():
            self.problems.append({"type": "missing", "loc": (location, name), "msg": "Field required", "input": None})
        else:
            self.values[wanted.name] = wanted.get_default()

    def validate(self, wanted: Any, given: Any, location: tuple[str, ...]) -> None:
        """Validate a value with FastAPI's field."""
        self.values[wanted.name], errors = wanted.validate(given, self.values, loc=location)
        self.problems.extend(errors)


def make_plan(dependant: Dependant) -> Plan | None:
    """Return the plan of an endpoint or dependency, or None when it needs FastAPI's solver."""
    call = dependant.call
    needs_solver = (
        dependant.header_params,
        dependant.cookie_params,
        dependant.websocket_param_name,
        dependant.http_connection_param_name,
        dependant.response_param_name,
        dependant.background_tasks_param_name,
        dependant.security_scopes_param_name,
        len(dependant.body_params) > 1,
    )
    if call is None or any(needs_solver) or not inspect.iscoroutinefunction(call):
        return None
    plan = Plan(call, request_name=dependant.request_param_name)
    plan.fields = [("path", wanted) for wanted in dependant.path_params]
    plan.fields += [("lists" if _is_list(wanted) else "query", wanted) for wanted in dependant.query_params]
    plan.body = dependant.body_params[0] if dependant.body_params else None
    for inner in dependant.dependencies:
        inner_plan = make_plan(inner)
        if isinstance(inner.call, SecurityBase):
            plan.ignored.append(str(inner.name))
        elif inner_plan is None or inner.name is None:
            return None
        else:
            plan.dependencies.append((inner.name, inner_plan))
    return plan


def lean_plan(route: APIRoute) -> Plan | None:
    """Return the plan of a lean route: its endpoint is annotated to return a Response and needs no solver."""
    returned = inspect.signature(route.endpoint).return_annotation
    if not (inspect.isclass(returned) and issubclass(returned, Response)):
        return None
    return make_plan(route.dependant)


class LeanRoutes:
    """ASGI middleware that serves the lean routes of an application; other requests go on to FastAPI."""

    def __init__(self, app: ASGIApp, *, of: FastAPI) -> None:
        self._app = app
        self._of = of
        self._exact: dict[tuple[str, str], tuple[APIRoute, Plan]] = {}
        self._patterns: dict[str, list[tuple[APIRoute, Plan]]] = {}
        self._others: set[str] = set()  # exact paths of other routes, which a pattern must not take
        for route in all_routes(of.routes):
            plan = lean_plan(route) if isinstance(route, APIRoute) else None
            if plan is None or not isinstance(route, APIRoute):
                self._others.add(getattr(route, "path", ""))
                continue
            for method in route.methods or ():
                if route.param_convertors:
                    self._patterns.setdefault(method, []).append((route, plan))
                else:
                    self._exact[method, route.path] = route, plan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._find(scope) if scope["type"] == "http" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        route, plan, path_values = found
        scope["app"] = self._of
        scope["route_template"] = route.path
        request = JsonRequest(scope, receive)
        if plan.body is not None:
            check_json(request)
            await request.json()  # before anything else, as FastAPI does it
        query = scope["query_string"]
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True) if query else []
        lists: dict[str, list[str]] = {}
        for name, value in pairs:
            lists.setdefault(name, []).append(value)
        given = {"path": path_values, "query": dict(pairs), "lists": lists}
        response: Response = await plan.run(request, given, {})
        await response(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[APIRoute, Plan, Mapping[str, Any]] | None:
        method, path = scope["method"], scope["path"]
        if method == "POST" and any(name in _SERVED_BY_FASTAPI for name, _ in scope["headers"]):
            return None
        exact = self._exact.get((method, path))
        if exact is not None:
            return *exact, {}
        if path in self._others:
            return None
        for route, plan in self._patterns.get(method, ()):
            match = route.path_regex.match(path)
            if match:
                return route, plan, {name: _convert(route, name, text) for name, text in match.groupdict().items()}
        return None


def _is_list(wanted: Any) -> bool:
    return field_annotation_is_sequence(wanted.field_info.annotation)


def _convert(route: APIRoute, name: str, text: str) -> Any:
    return route.param_convertors[name].convert(text)


def lean_routes(routes: Iterable[Any]) -> list[APIRoute]:
    """Return the lean routes among all routes of an application, for the tests."""
    return [route for route in all_routes(routes) if isinstance(route, APIRoute) and lean_plan(route)]
