"""The routes of users, Clerk's webhook, and the internal route with which the gateway resolves identities."""

from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from common.fields import Id
from common.http.app import feature_router
from common.http.deps import AllSessionDep, CallerDep, PageDep, SessionDep, internal_session
from common.http.requests import JsonRequest
from common.paging import Paginated, Pagination
from contacts.identity import rules, service
from contacts.identity.schemas import IdentityIn, IdentityOut, MeOut, OrganisationContext, UserOut

router = feature_router("users")
FromGateway = Annotated[AsyncSession, Depends(internal_session("gateway"), scope="function")]


@router.post("/internal/identity/", include_in_schema=False)
async def resolve_identity(body: IdentityIn, session: FromGateway) -> IdentityOut:
    """Return the organisation and user that a verified session token names."""
    user_id = await service.resolve_identity(session, body)
    return IdentityOut(organisation_id=body.clerk_organisation_id, user_id=user_id)


@router.get("/api/users/")
async def list_users(session: SessionDep, page: PageDep) -> Paginated[UserOut]:
    """List the members of the organisation. They are sorted by name."""
    rows, total = await service.list_users(session, page)
    return Paginated(results=[UserOut.model_validate(row) for row in rows], pagination=Pagination.of(page, total))


@router.get("/api/users/me/")
async def get_me(caller: CallerDep, session: SessionDep) -> MeOut:
    """See who you are. The answer has your organisation, and your role and permissions in it."""
    user, organisation = await service.get_me(session, caller)
    context = OrganisationContext(
        clerk_org_id=organisation.organisation_id,
        name=organisation.name,
        slug=organisation.slug or caller.organisation_slug,
        role=caller.role,
        permissions=list(caller.permissions),
    )
    return MeOut.model_validate({**user._asdict(), "organisation": context})


@router.get("/api/users/{user_id}/")
async def get_user(user_id: Id, session: SessionDep) -> UserOut:
    """Look at a member. People who left the organisation can be read, too."""
    return UserOut.model_validate(await service.get_user(session, user_id))


@router.post("/api/webhooks/clerk/", tags=["webhooks"], openapi_extra={"security": []}, responses={400: {}, 413: {}})
async def receive_clerk_event(request: Request, session: AllSessionDep) -> dict[str, str]:
    """Receive an event from Clerk. It is signed by Svix. A repeated event gets the same answer and changes nothing."""
    body = await JsonRequest(request.scope, request.receive).body()
    secret = request.app.state.settings.clerk_webhook_signing_secret.get_secret_value()
    await service.apply_event(session, rules.verify_event(secret, body, dict(request.headers)))
    return {"status": "ok"}
