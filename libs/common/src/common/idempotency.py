"""Idempotency keys: what a request left is kept for a day in the transaction of its effect, and answered again."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import AppError, Conflict, Invalid

KEPT = "24 hours"
_LONGEST = 255
_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))")
_FIND = text(
    f"SELECT body_hash, status, content_type, body FROM idempotency_keys"  # noqa: S608  # a constant
    f" WHERE organisation_id = :organisation AND route = :route AND key = :key"
    f" AND created_at > now() - interval '{KEPT}'"
)
_KEEP = text(
    """
    INSERT INTO idempotency_keys (organisation_id, route, key, body_hash, status, content_type, body)
    VALUES (:organisation, :route, :key, :body_hash, :status, :content_type, :body)
    ON CONFLICT (organisation_id, route, key) DO UPDATE
    SET body_hash = excluded.body_hash, status = excluded.status, content_type = excluded.content_type,
        body = excluded.body, created_at = now()
    """
)
_FORGET = text(
    f"DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY(SELECT ctid FROM idempotency_keys"  # noqa: S608
    f" WHERE created_at < now() - interval '{KEPT}' LIMIT 5000))"
)


class KeyMismatch(AppError):
    status, code = 422, "idempotency_mismatch"
    default = "This idempotency key was used with another body. Use a new key for a new request."


@dataclass(frozen=True, slots=True)
class Answer:
    """The first answer of a keyed request."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """One request under a key, in one organisation and route."""

    organisation_id: str
    route: str
    key: str
    body_hash: bytes


def check_key(key: str) -> str:
    """The key, which has 1 to 255 printable ASCII characters. Raises Invalid."""
    if not (0 < len(key) <= _LONGEST and key.isascii() and key.isprintable()):
        raise Invalid.field("Idempotency-Key", f"Use 1 to {_LONGEST} printable ASCII characters.")
    return key


def hash_chunks(chunks: Iterable[bytes]) -> bytes:
    """SHA-256 over chunks, each with its length, so that no two lists of chunks share a hash."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(len(chunk).to_bytes(8, "big") + chunk)
    return digest.digest()


async def begin(session: AsyncSession, request: KeyedRequest, service: str) -> Answer | None:
    """Takes the key for this transaction. The first answer when there is one, None when the request is to run.

    Raises Conflict while the first request runs, KeyMismatch when it had another body.
    """
    name = "\x1f".join((service, request.organisation_id, request.route, request.key))
    if not await session.scalar(_LOCK, {"name": name}):
        raise Conflict
    place = {"organisation": request.organisation_id, "route": request.route, "key": request.key}
    kept = (await session.execute(_FIND, place)).one_or_none()
    if kept is None:
        return None
    if kept.body_hash != request.body_hash:
        raise KeyMismatch
    return Answer(kept.status, kept.content_type, kept.body)


async def keep(session: AsyncSession, request: KeyedRequest, answer: Answer) -> None:
    """Keeps the answer beside the effect: both are committed, or none."""
    await session.execute(
        _KEEP,
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


async def forget_old(session: AsyncSession) -> bool:
    """Removes some of the keys that are older than a day. True when there may be more."""
    return bool((await session.execute(_FORGET)).rowcount)  # type: ignore[attr-defined]
