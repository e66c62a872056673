"""Dependencies of routes: the caller, and a session that commits before the first byte of the answer.

All of them are coroutines, because FastAPI runs plain functions in a thread.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Query, Request
from fastapi.security import HTTPBearer
from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller, CallerVerifier
from common.errors import Forbidden, Invalid
from common.fields import QueryNumber
from common.paging import DEFAULT_LIMIT, MAX_LIMIT, Page
from common.statements import Tenant

_bearer = HTTPBearer(auto_error=False, description="Clerk session token")


def _verify(request: Request, issuers: frozenset[str]) -> Caller:
    verifier: CallerVerifier = request.app.state.caller_verifier
    caller = verifier.verify(request.headers.get("authorization"), issuers)
    request.scope["caller_log"] = {"organisation": caller.organisation_id, "user": caller.user_id}
    return caller


async def get_caller(request: Request, _: Annotated[object, Depends(_bearer)] = None) -> Caller:
    """Return the caller of a public route from the gateway's token. Raises Forbidden without an organisation."""
    caller = _verify(request, frozenset({"gateway"}))
    if not caller.organisation_id:
        raise Forbidden("Choose an organisation first.")
    return caller


async def get_admin(caller: Annotated[Caller, Depends(get_caller)]) -> Caller:
    """Return a caller with the role admin. Raises Forbidden for others."""
    if not caller.is_admin:
        raise Forbidden
    return caller


def internal_caller(*issuers: str) -> Callable[[Request], Awaitable[Caller]]:
    """Return a dependency for internal routes: the caller, when one of the services `issuers` signed the token."""
    allowed = frozenset(issuers)

    async def get_internal_caller(request: Request) -> Caller:
        return _verify(request, allowed)

    return get_internal_caller


def internal_session(*issuers: str) -> Callable[[Request], AsyncIterator[AsyncSession]]:
    """Return a dependency for internal routes: a transaction of the caller's organisation.

    A call of the system without an organisation gets a transaction across all. Use it with `scope="function"`.
    """
    get_internal_caller = internal_caller(*issuers)

    async def get_internal_session(request: Request) -> AsyncIterator[AsyncSession]:
        organisation_id = (await get_internal_caller(request)).organisation_id
        database = request.app.state.database
        async with database.tenant(organisation_id) if organisation_id else database.all_tenants() as session:
            yield session

    return get_internal_session


async def get_session(request: Request, caller: Annotated[Caller, Depends(get_caller)]) -> AsyncIterator[AsyncSession]:
    """Begin a transaction of the caller's organisation.

    A request with an idempotency key already has one, which commits together with the saved answer.
    """
    if (keyed := request.scope.get("keyed_session")) is not None:
        yield keyed
        return
    async with request.app.state.database.tenant(caller.organisation_id) as session:
        yield session


async def get_tenant(request: Request, caller: Annotated[Caller, Depends(get_caller)]) -> Tenant:
    """Return the Tenant that runs single statements of the caller's organisation."""
    session: AsyncSession | None = request.scope.get("keyed_session")
    tenant: Tenant = request.app.state.database.statements(caller.organisation_id, session)
    return tenant


def internal_tenant(*issuers: str) -> Callable[[Request], Awaitable[Tenant]]:
    """Return a dependency for internal routes: where single statements of the caller's organisation run."""
    get_internal_caller = internal_caller(*issuers)

    async def get_internal_tenant(request: Request) -> Tenant:
        caller = await get_internal_caller(request)
        tenant: Tenant = request.app.state.database.statements(caller.organisation_id)
        return tenant

    return get_internal_tenant


async def get_all_session(request: Request) -> AsyncIterator[AsyncSession]:
    """Begin a transaction that sees every organisation. The route itself must check who may use it."""
    async with request.app.state.database.all_tenants() as session:
        yield session


async def get_page(
    page: Annotated[QueryNumber, Query(description="page number, from 1")] = None,
    limit: Annotated[
        QueryNumber,
        Query(description=f"rows a page, by default {DEFAULT_LIMIT}; more than {MAX_LIMIT} is read as {MAX_LIMIT}"),
    ] = None,
) -> Page:
    """Read `?page` and `?limit`, numbers of at least 1. Raises Invalid that names the wrong parameter."""
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
TenantDep = Annotated[Tenant, Depends(get_tenant)]
SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]
AllSessionDep = Annotated[AsyncSession, Depends(get_all_session, scope="function")]
PageDep = Annotated[Page, Depends(get_page)]
