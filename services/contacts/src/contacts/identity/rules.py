"""Clerk's events may come late, twice and in any order (facts on Clerk): what each says, and when it was so."""

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import svix.webhooks
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from common.errors import Invalid
from common.fields import clean_text
from contacts.identity.schemas import ClerkEvent, ClerkUser, Times

ModelT = TypeVar("ModelT", bound=BaseModel)
_MILLISECONDS_FROM = 10**11
_TICK = timedelta(milliseconds=1)


def verify_event(secret: str, body: bytes, headers: dict[str, str]) -> ClerkEvent:
    """The event of a delivery that Svix signed, at most five minutes ago. Raises Invalid."""
    try:
        svix.webhooks.Webhook(secret).verify(body, headers)
    except (svix.webhooks.WebhookVerificationError, ValueError):
        raise Invalid("The signature is not valid.") from None
    try:
        event = read(ClerkEvent, from_json(body))
    except ValueError:
        raise Invalid("The event is not JSON.") from None
    if event.timestamp is None:
        sent_at = next(headers[name] for name in ("svix-timestamp", "webhook-timestamp") if name in headers)
        event.timestamp = int(sent_at)
    return event


def read(model: type[ModelT], given: Any) -> ModelT:
    """Raises Invalid for what is not as Clerk writes it."""
    try:
        return model.model_validate(given)
    except ValidationError:
        raise Invalid("The event is not understood.") from None


def moment(stamp: int, *, end: bool = False) -> datetime:
    """A time in seconds or milliseconds; with `end` the last moment that it may mean."""
    if stamp > _MILLISECONDS_FROM:
        return datetime.fromtimestamp(stamp / 1000, UTC)
    return datetime.fromtimestamp(stamp, UTC) + (timedelta(milliseconds=999) if end else timedelta())


def times_of(event: ClerkEvent, created_at: int | None, updated_at: int | None) -> Times:
    """A `created` proves that it was there when it happened, an `updated` only that it was there when it was made
    (a deletion may lie between). Of two states of one time the updated one is newer."""
    assert event.timestamp is not None
    happened = moment(event.timestamp)
    told_at = moment(updated_at) if updated_at is not None else happened
    born = moment(created_at) if created_at is not None else told_at
    if event.type.endswith(".created"):
        return Times(alive_at=max(born, happened), updated_at=told_at, newer_than=told_at)
    return Times(alive_at=born, updated_at=told_at, newer_than=told_at + _TICK)


def deleted_at(event: ClerkEvent, updated_at: int | None = None) -> datetime:
    """When the deletion happened."""
    assert event.timestamp is not None
    happened = moment(event.timestamp, end=True)
    return max(happened, moment(updated_at)) if updated_at is not None else happened


def primary_email(user: ClerkUser) -> str:
    """The primary address, else the first."""
    addresses = user.email_addresses or []
    primary = [a for a in addresses if a.id == user.primary_email_address_id]
    return next((a.email_address for a in primary or addresses), "")


def line(given: str | None) -> str:
    """One of Clerk's texts as ours."""
    return clean_text(given or "")


def short_role(role: str) -> str:
    """Roles are shown without `org:` everywhere."""
    return role.removeprefix("org:")
