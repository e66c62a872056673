"""Users over HTTP, Clerk's webhook, and what the gateway asks: api.md, Users, stats, configs, webhooks."""

from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from common.fields import Id
from common.http.app import JsonRequest, feature_router
from common.http.deps import AllSessionDep, CallerDep, PageDep, SessionDep, internal_session
from common.paging import Paginated
from contacts.identity import rules, service
from contacts.identity.schemas import IdentityIn, IdentityOut, MeOut, UserOut

router = feature_router("users")
ForGateway = Annotated[AsyncSession, Depends(internal_session("gateway"), scope="function")]


@router.post("/internal/identity/", include_in_schema=False)
async def identify(body: IdentityIn, session: ForGateway) -> IdentityOut:
    """Who a verified session token names."""
    return await service.identify(session, body)


@router.get("/api/users/")
async def list_users(session: SessionDep, page: PageDep) -> Paginated[UserOut]:
    """The organisation's members, by name."""
    return await service.list_users(session, page)


@router.get("/api/users/me/")
async def get_me(caller: CallerDep, session: SessionDep) -> MeOut:
    """The user who asks, with role and permissions in the organisation."""
    return await service.get_me(session, caller)


@router.get("/api/users/{user_id}/")
async def get_user(user_id: Id, session: SessionDep) -> UserOut:
    """A user who is or was a member of the organisation."""
    return await service.get_user(session, user_id)


@router.post("/api/webhooks/clerk/", tags=["webhooks"], openapi_extra={"security": []}, responses={400: {}, 413: {}})
async def receive_clerk_event(request: Request, session: AllSessionDep) -> dict[str, str]:
    """Takes a delivery that Clerk signed through Svix. A repetition is answered the same and changes nothing."""
    body = await JsonRequest(request.scope, request.receive).body()
    secret = request.app.state.settings.clerk_webhook_signing_secret.get_secret_value()
    await service.apply_event(session, rules.verify_event(secret, body, dict(request.headers)))
    return {"status": "ok"}
