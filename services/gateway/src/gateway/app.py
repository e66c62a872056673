"""The HTTP entry point: the layers that a request passes, from the outside in."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI
from starlette.types import ASGIApp

from common.clients import ServiceClient
from common.http import errors
from common.http.app import NO_TELEMETRY, RenderErrors
from common.http.request_log import RequestLog
from gateway import docs, health
from gateway.auth import Authenticator
from gateway.edge import AccessControl, Cors, Edge, Permissions
from gateway.identity import Identities
from gateway.keys import JwksKeys, PemKey
from gateway.proxy import Proxy
from gateway.settings import Settings
from gateway.slots import Slots
from gateway.throttles import RateLimitHeaders, Throttles
from gateway.v1.middleware import V1Clients

log = structlog.get_logger()


def create_app(settings: Settings) -> ASGIApp:
    """Return the gateway. It has no state that a second replica would need."""
    secret = settings.internal_token_secret.get_secret_value()
    urls = {"contacts": settings.contacts_url, "scheduling": settings.scheduling_url, "delivery": settings.delivery_url}
    contacts = ServiceClient(settings.contacts_url, issuer="gateway", audience="contacts", secret=secret)
    proxy = Proxy(urls)
    throttles = Throttles(settings)
    keys = PemKey(settings.clerk_jwt_key) if settings.clerk_jwt_key else JwksKeys(settings.jwks_url)
    access = AccessControl(
        authenticator=Authenticator(settings.clerk_issuer, settings.clerk_authorized_parties, keys.get),
        identities=Identities(contacts, ttl_s=settings.identity_ttl_s),
        throttles=throttles,
        permissions=Permissions(settings.route_permissions),
        secret=secret,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        metrics = await health.serve_metrics(settings)
        log.info("api ready", port=settings.port)
        yield
        if metrics is not None:
            await metrics.close()
        await contacts.close()
        await proxy.close()
        await throttles.close()

    own = FastAPI(title="Cooee", lifespan=lifespan, openapi_url=None, telemetry=NO_TELEMETRY)
    own.state.proxy, own.state.document = proxy, docs.ApiDocument(urls)
    own.state.health = health.Health(health.addresses(settings))
    errors.install(own)
    own.include_router(health.router)
    own.include_router(docs.router)
    docs.mount_assets(own)
    # Only requests for the gateway's own routes reach FastAPI. Edge forwards all others.
    slots = Slots(settings.organisation_slots, settings.organisation_slots_contended)
    app: ASGIApp = RateLimitHeaders(RenderErrors(Edge(own, access=access, proxy=proxy, slots=slots)))
    app = V1Clients(app, settings)
    if settings.cors_allowed_origins:
        app = Cors(app, origins=settings.cors_allowed_origins)
    return RequestLog(app, service="gateway")
