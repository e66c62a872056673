"""Read Clerk's webhook events and their times. Events may arrive late, twice and in any order."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import svix.webhooks
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from common.errors import Invalid
from common.fields import clean_text
from contacts.identity.schemas import ClerkEvent, ClerkUser, EventTimes

ModelT = TypeVar("ModelT", bound=BaseModel)
_MILLISECONDS_FROM = 10**11
# The whole signature of one version: 32 bytes in base64.
_SIGNATURE = re.compile(r"v1,[A-Za-z0-9+/]{43}=")
_TICK = timedelta(milliseconds=1)


def verify_event(secret: str, body: bytes, headers: dict[str, str]) -> ClerkEvent:
    """Return the event of a webhook that Svix signed in the last five minutes. Raises Invalid."""
    names = ("svix-signature", "webhook-signature")
    readable = {name: _readable_signatures(headers[name]) for name in names if name in headers}
    try:
        svix.webhooks.Webhook(secret).verify(body, {**headers, **readable})
    except (svix.webhooks.WebhookVerificationError, ValueError):
        raise Invalid("The signature is not valid.") from None
    try:
        event = parse(ClerkEvent, from_json(body))
    except ValueError:
        raise Invalid("The event is not valid JSON.") from None
    if event.timestamp is None:
        sent_at = next(headers[name] for name in ("svix-timestamp", "webhook-timestamp") if name in headers)
        event.timestamp = int(sent_at)
    return event


def _readable_signatures(header: str) -> str:
    """Return the signatures of a header that Svix's package can read: it refuses all of them because of another one.

    While a secret is replaced, a header has a signature for each secret.
    """
    return " ".join(one for one in header.split() if _SIGNATURE.fullmatch(one))


def parse(model: type[ModelT], given: Any) -> ModelT:
    """Return the given JSON as a model. Raises Invalid when it does not have Clerk's format."""
    try:
        return model.model_validate(given)
    except ValidationError:
        raise Invalid("The event does not have the expected format.") from None


def to_time(stamp: int, *, latest: bool = False) -> datetime:
    """Return the time of a stamp in seconds or milliseconds, with `latest` the last millisecond of its second."""
    if stamp > _MILLISECONDS_FROM:
        return datetime.fromtimestamp(stamp / 1000, UTC)
    return datetime.fromtimestamp(stamp, UTC) + (timedelta(milliseconds=999) if latest else timedelta())


def times_of(event: ClerkEvent, created_at: int | None, updated_at: int | None) -> EventTimes:
    """Return the times of an event that reports a state.

    A `created` event proves that its subject existed at the event's time. An `updated` event proves only that it
    existed when it was created, because a deletion may have happened since. Of two states with the same time, the
    state of the `updated` event is newer.
    """
    assert event.timestamp is not None
    happened_at = to_time(event.timestamp)
    state_at = to_time(updated_at) if updated_at is not None else happened_at
    existed_at = to_time(created_at) if created_at is not None else state_at
    if event.type.endswith(".created"):
        return EventTimes(existed_at=max(existed_at, happened_at), updated_at=state_at, newer_than=state_at)
    return EventTimes(existed_at=existed_at, updated_at=state_at, newer_than=state_at + _TICK)


def deleted_at(event: ClerkEvent, updated_at: int | None = None) -> datetime:
    """Return the time of a deletion."""
    assert event.timestamp is not None
    happened_at = to_time(event.timestamp, latest=True)
    return max(happened_at, to_time(updated_at)) if updated_at is not None else happened_at


def primary_email(user: ClerkUser) -> str:
    """Return the user's primary address, else the first one, else ""."""
    addresses = user.email_addresses or []
    primary = [a for a in addresses if a.id == user.primary_email_address_id]
    return next((a.email_address for a in primary or addresses), "")


def clean_or_empty(given: str | None) -> str:
    """Return a text of Clerk without control characters, "" for null."""
    return clean_text(given or "")


def short_role(role: str) -> str:
    """Return a role of Clerk without its prefix `org:`."""
    return role.removeprefix("org:")
