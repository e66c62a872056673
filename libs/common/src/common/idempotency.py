"""Idempotency keys: the answer of a request is saved in the transaction of its effect, and replayed for a day.

A request first claims its key in a short transaction of its own. So no connection is held while the request waits for
another service. Only the request that holds the claim can save its answer, so two requests never both have an effect.
"""

# ruff: noqa: S608 (the parts of the statements are constants of this file)

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from uuid import uuid4

import structlog
from sqlalchemy import TextClause, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import AppError, Conflict, Invalid
from common.statements import ORGANISATION, ORGANISATION_CTE, Source, Statement, Tenant

log = structlog.get_logger()

RETENTION = "24 hours"
_MAX_LENGTH = 255
# A claim ends by itself, so that a killed process does not block its keys. A running request renews it in time.
_CLAIM_S = 15
_RENEW_S = 5.0
_KEY = "organisation_id = :organisation AND route = :route AND key = :key"
# Insert the key, or claim it when its first request ended without an answer, or when it has expired.
_CLAIM = Statement(
    f"""
    WITH {ORGANISATION_CTE}
    INSERT INTO idempotency_keys AS k (organisation_id, route, key, body_hash, claimed_by, claimed_until)
    SELECT o.id, $2, $3, $4, $5, now() + make_interval(secs => {_CLAIM_S}) FROM o
    ON CONFLICT (organisation_id, route, key) DO UPDATE
    SET body_hash = excluded.body_hash, claimed_by = excluded.claimed_by, claimed_until = excluded.claimed_until,
        status = NULL, content_type = NULL, location = NULL, body = NULL, created_at = now()
    WHERE k.created_at < now() - interval '{RETENTION}' OR (k.status IS NULL AND k.claimed_until < now())
    RETURNING true AS is_mine
    """
)
_FIND = Statement(
    f"""
    SELECT k.* FROM {ORGANISATION}
    CROSS JOIN LATERAL (
        SELECT body_hash, status, content_type, location, body FROM idempotency_keys
        WHERE organisation_id = o.id AND route = $2 AND key = $3) k
    """
)
_RENEW = text(
    f"UPDATE idempotency_keys SET claimed_until = now() + make_interval(secs => {_CLAIM_S})"
    f" WHERE {_KEY} AND claimed_by = :claim"
)
_SAVE = text(
    f"UPDATE idempotency_keys SET status = :status, content_type = :content_type, location = :location,"
    f" body = :body, claimed_by = NULL, claimed_until = NULL WHERE {_KEY} AND claimed_by = :claim RETURNING 1"
)
_RELEASE = text(f"DELETE FROM idempotency_keys WHERE {_KEY} AND claimed_by = :claim")


class KeyMismatch(AppError):
    status, code = 422, "idempotency_mismatch"
    default = "This idempotency key was used with another body. Use a new key for a new request."


@dataclass(frozen=True, slots=True)
class Answer:
    """The first answer to a keyed request. `location` is its header `Location`."""

    status: int
    content_type: str
    location: str | None
    body: bytes


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request with an idempotency key. The key belongs to the organisation and the route."""

    organisation_id: str
    route: str
    key: str
    body_hash: bytes


class Claim:
    """The claim of a running request on its key."""

    def __init__(self, request: KeyedRequest, source: Source) -> None:
        self._request = request
        self._source = source
        self._id = uuid4()
        self._name = {"organisation": request.organisation_id, "route": request.route, "key": request.key}
        self.is_used = False  # the answer is saved and committed

    async def make(self) -> Answer | None:
        """Claim the key. Return the first answer if there is one.

        Raises Conflict while the first request runs, and KeyMismatch when it had another body.
        """
        tenant, wanted = Tenant(self._source, self._request.organisation_id), self._request
        if await tenant.fetch(_CLAIM, wanted.route, wanted.key, wanted.body_hash, self._id):
            return None
        stored = await tenant.fetch_row(_FIND, wanted.route, wanted.key)
        if stored is None or stored["status"] is None:
            raise Conflict
        if stored["body_hash"] != wanted.body_hash:
            raise KeyMismatch
        return Answer(
            status=stored["status"],
            content_type=stored["content_type"],
            location=stored["location"],
            body=stored["body"],
        )

    async def save(self, session: AsyncSession, answer: Answer) -> None:
        """Save the answer in the transaction of the effect: both commit, or neither.

        Raises Conflict when the claim has ended and another request has the key.
        """
        if not await session.scalar(_SAVE, {**self._name, "claim": self._id, **asdict(answer)}):
            raise Conflict

    async def renew(self) -> None:
        """Renew the claim until this task is cancelled."""
        while True:
            await asyncio.sleep(_RENEW_S)
            await self._execute(_RENEW)

    async def release(self) -> None:
        """Delete the key, unless its answer is saved. When that fails, the claim ends by itself."""
        await self._execute(_RELEASE)

    async def _execute(self, statement: TextClause) -> None:
        try:
            async with self._source.tenant(self._request.organisation_id) as session:
                await session.execute(statement, {**self._name, "claim": self._id})
        except (SQLAlchemyError, OSError) as error:
            log.warning("claim of an idempotency key not changed", error=type(error).__name__)


@asynccontextmanager
async def claimed(request: KeyedRequest, source: Source) -> AsyncIterator[tuple[Claim, Answer | None]]:
    """Claim the key of a request while the block runs, and release it unless `is_used` is set.

    Yields the claim, and the first answer if there is one. Raises Conflict and KeyMismatch.
    """
    claim = Claim(request, source)
    first = await claim.make()
    if first is not None:
        yield claim, first
        return
    renewing = asyncio.ensure_future(claim.renew())
    try:
        yield claim, None
    finally:
        renewing.cancel()
        if not claim.is_used:
            await asyncio.shield(claim.release())


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
