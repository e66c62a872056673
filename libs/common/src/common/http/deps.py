"""What routes ask for: who is calling, and a session that commits before the first byte of the answer.

All of them are coroutines, also those that wait for nothing: FastAPI would run a plain function in a thread.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Query, Request
from fastapi.security import HTTPBearer
from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller, verify
from common.errors import Forbidden, Invalid
from common.paging import DEFAULT_LIMIT, MAX_LIMIT, Page

_bearer = HTTPBearer(auto_error=False, description="Clerk session token")


def _verify(request: Request, issuers: frozenset[str]) -> Caller:
    settings = request.app.state.settings
    caller = verify(
        request.headers.get("authorization"),
        audience=settings.service,
        issuers=issuers,
        secret=settings.internal_token_secret.get_secret_value(),
    )
    request.scope["caller_log"] = {"organisation": caller.organisation_id, "user": caller.user_id}
    return caller


async def get_caller(request: Request, _: Annotated[object, Depends(_bearer)] = None) -> Caller:
    """The person behind a public route, as the gateway vouches for it; always inside an organisation."""
    caller = _verify(request, frozenset({"gateway"}))
    if not caller.organisation_id:
        raise Forbidden("Choose an organisation first.")
    return caller


async def get_admin(caller: Annotated[Caller, Depends(get_caller)]) -> Caller:
    """A caller with the role admin."""
    if not caller.is_admin:
        raise Forbidden
    return caller


def neighbour(*issuers: str) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency for internal routes: a call by one of the named services, on somebody's or the system's behalf."""
    allowed = frozenset(issuers)

    async def get_neighbour(request: Request) -> Caller:
        return _verify(request, allowed)

    return get_neighbour


def neighbour_session(*issuers: str) -> Callable[[Request], AsyncIterator[AsyncSession]]:
    """A dependency for internal routes: a transaction of the caller's organisation, or across all for the system's
    calls that name none. Use it with `scope="function"`."""
    get_neighbour = neighbour(*issuers)

    async def get_neighbour_session(request: Request) -> AsyncIterator[AsyncSession]:
        organisation_id = (await get_neighbour(request)).organisation_id
        database = request.app.state.database
        async with database.tenant(organisation_id) if organisation_id else database.all_tenants() as session:
            yield session

    return get_neighbour_session


async def get_session(request: Request, caller: Annotated[Caller, Depends(get_caller)]) -> AsyncIterator[AsyncSession]:
    """A transaction of the caller's organisation. It begins with the first statement.

    A request under an idempotency key brings its own, which is committed with its answer.
    """
    if (keyed := request.scope.get("keyed_session")) is not None:
        yield keyed
        return
    async with request.app.state.database.tenant(caller.organisation_id) as session:
        yield session


async def get_all_session(request: Request) -> AsyncIterator[AsyncSession]:
    """A transaction that sees every organisation; the route itself must say who may ask for it."""
    async with request.app.state.database.all_tenants() as session:
        yield session


async def get_page(
    page: Annotated[str | None, Query(description="page number, from 1")] = None,
    limit: Annotated[
        str | None, Query(description=f"rows a page; more than {MAX_LIMIT} is read as {MAX_LIMIT}")
    ] = None,
) -> Page:
    """`?page` and `?limit`. Raises Invalid under the name of the one that is no number of at least 1."""
    number, size = _positive("page", page, 1), _positive("limit", limit, DEFAULT_LIMIT)
    return Page(number=number, limit=min(size, MAX_LIMIT))


def _positive(name: str, given: str | None, default: int) -> int:
    if given is None or given == "":
        return default
    if not (given.isascii() and given.isdigit() and len(given) <= 15 and int(given) >= 1):
        raise Invalid.field(name, "Enter a whole number of at least 1.")
    return int(given)


CallerDep = Annotated[Caller, Depends(get_caller)]
AdminDep = Annotated[Caller, Depends(get_admin)]
SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]
AllSessionDep = Annotated[AsyncSession, Depends(get_all_session, scope="function")]
PageDep = Annotated[Page, Depends(get_page)]
