"""Idempotency keys: the answer of a request is saved in the transaction of its effect, and replayed for a day."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import AppError, Conflict, Invalid

RETENTION = "24 hours"
_MAX_LENGTH = 255
_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))")
_FIND = text(
    f"SELECT body_hash, status, content_type, body FROM idempotency_keys"  # noqa: S608  # a constant
    f" WHERE organisation_id = :organisation AND route = :route AND key = :key"
    f" AND created_at > now() - interval '{RETENTION}'"
)
_SAVE = text(
    """
    INSERT INTO idempotency_keys (organisation_id, route, key, body_hash, status, content_type, body)
    VALUES (:organisation, :route, :key, :body_hash, :status, :content_type, :body)
    ON CONFLICT (organisation_id, route, key) DO UPDATE
    SET body_hash = excluded.body_hash, status = excluded.status, content_type = excluded.content_type,
        body = excluded.body, created_at = now()
    """
)
_DELETE_EXPIRED = text(
    f"DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY(SELECT ctid FROM idempotency_keys"  # noqa: S608
    f" WHERE created_at < now() - interval '{RETENTION}' LIMIT 5000))"
)


class KeyMismatch(AppError):
    status, code = 422, "idempotency_mismatch"
    default = "This idempotency key was used with another body. Use a new key for a new request."


@dataclass(frozen=True, slots=True)
class Answer:
    """The first answer to a keyed request."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request with an idempotency key. The key belongs to the organisation and the route."""

    organisation_id: str
    route: str
    key: str
    body_hash: bytes


def check_key(key: str) -> str:
    """Return the key if it has 1 to 255 printable ASCII characters. Raises Invalid."""
    if not (0 < len(key) <= _MAX_LENGTH and key.isascii() and key.isprintable()):
        raise Invalid.field("Idempotency-Key", f"Use 1 to {_MAX_LENGTH} printable ASCII characters.")
    return key


def hash_chunks(chunks: Iterable[bytes]) -> bytes:
    """Return the SHA-256 of the chunks, each with its length, so that different lists have different hashes."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(len(chunk).to_bytes(8, "big") + chunk)
    return digest.digest()


async def begin(session: AsyncSession, request: KeyedRequest, service: str) -> Answer | None:
    """Lock the key for this transaction. Return the first answer, or None when the request must run.

    Raises Conflict while the first request runs, and KeyMismatch when it had another body.
    """
    name = "\x1f".join((service, request.organisation_id, request.route, request.key))
    if not await session.scalar(_LOCK, {"name": name}):
        raise Conflict
    place = {"organisation": request.organisation_id, "route": request.route, "key": request.key}
    stored = (await session.execute(_FIND, place)).one_or_none()
    if stored is None:
        return None
    if stored.body_hash != request.body_hash:
        raise KeyMismatch
    return Answer(stored.status, stored.content_type, stored.body)


async def save(session: AsyncSession, request: KeyedRequest, answer: Answer) -> None:
    """Save the answer in the transaction of the effect: both commit, or neither."""
    await session.execute(
        _SAVE,
        {
            "organisation": request.organisation_id,
            "route": request.route,
            "key": request.key,
            "body_hash": request.body_hash,
            "status": answer.status,
            "content_type": answer.content_type,
            "body": answer.body,
        },
    )


async def delete_expired(session: AsyncSession) -> bool:
    """Delete up to 5,000 keys that are older than a day. Return whether any were deleted."""
    return bool((await session.execute(_DELETE_EXPIRED)).rowcount)  # type: ignore[attr-defined]
