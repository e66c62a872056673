"""Sessions of a service: those that see one organisation, and those that see all."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import asyncpg
import structlog
from prometheus_client import Gauge
from sqlalchemy import URL, Dialect, event, make_url, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.pool import ConnectionPoolEntry

from common import metrics
from common.errors import Unavailable
from common.pool import ConnectionPool
from common.statements import Tenant
from common.wakes import Wakes

log = structlog.get_logger()

T = TypeVar("T")
OUTBOX = "outbox"  # the name of the event that wakes the relay
_IDLE_CHECK_S = 5.0
_SET_ORGANISATION = text("SELECT set_config('app.organisation_id', :organisation, true)")
_KEEP_PLANS = text("SELECT set_config('plan_cache_mode', 'force_generic_plan', true)")
_NOT_CONNECTED = (OSError, TimeoutError, PoolTimeoutError)
_TRANSIENT = ("25006", "40001", "40P01", "08", "57P01", "57P02", "57P03")


def role_url(url: str, role: str) -> URL:
    """Return the asyncpg URL of one of a service's roles: user `<user>_<role>`, the same password."""
    base = make_url(url)
    return base.set(drivername="postgresql+asyncpg", username=f"{base.username}_{role}")


class Database:
    """The connection pools of one process, and the events that wake its loops."""

    def __init__(
        self, url: str, application: str, *, tenant_pool: int = 10, all_pool: int = 5, statement_pool: int = 10
    ) -> None:
        self._tenant = _engine(role_url(url, "tenant"), application, tenant_pool, "tenant")
        self._all = _engine(role_url(url, "all"), application, all_pool, "all")
        self.pool = ConnectionPool(role_url(url, "tenant"), application, statement_pool)
        self._notifying = ConnectionPool(role_url(url, "all"), application, 1, "notify")
        self.wakes = Wakes(self._notifying, str(make_url(url).username))

    @property
    def published(self) -> asyncio.Event:
        """The event that is set when new rows are in the outbox."""
        return self.wakes.event(OUTBOX)

    def tenant(self, organisation_id: str) -> AbstractAsyncContextManager[AsyncSession]:
        """Begin a transaction that sees one organisation. It commits at the end and rolls back on an error."""
        return self._session(self._tenant, organisation_id)

    def statements(self, organisation_id: str, session: AsyncSession | None = None) -> Tenant:
        """Return where single statements of one organisation run, in the transaction of `session` if there is one."""
        return Tenant(self, organisation_id, session)

    async def find_work(self, conditions: Mapping[str, str]) -> list[str]:
        """Return the names whose SQL conditions hold across all organisations, in one round trip.

        Raises Unavailable.
        """
        columns = ", ".join(f"({condition}) AS {name}" for name, condition in conditions.items())
        (row,) = await self._notifying.fetch(f"SELECT {columns}")
        return [name for name, is_true in row.items() if is_true]

    def all_tenants(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Begin a transaction that sees every organisation, for loops, consumers and operators."""
        return self._session(self._all, None)

    @asynccontextmanager
    async def _session(self, engine: AsyncEngine, organisation_id: str | None) -> AsyncIterator[AsyncSession]:
        info = {"organisation_id": organisation_id, "source": self}
        async with AsyncSession(engine, expire_on_commit=False, info=info) as session, session.begin():
            yield session

    async def close(self) -> None:
        """Close all connections."""
        await self.wakes.close()
        await self._tenant.dispose()
        await self._all.dispose()
        await self.pool.close()
        await self._notifying.close()


async def keep_plans(session: AsyncSession) -> None:
    """Let PostgreSQL reuse the plans of statements until the end of the transaction, because planning them is slow.

    A plan that was made while a table was empty must be good when it is full, so it needs a test.
    """
    await session.execute(_KEEP_PLANS)


def _engine(url: URL, application: str, size: int, name: str) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=size,
        max_overflow=0,
        pool_timeout=2,
        pool_recycle=1800,
        # After a failover the address may lead to a standby for a while. Such a connection is refused and tried again.
        connect_args={
            "timeout": 5,
            "target_session_attrs": "read-write",
            "server_settings": {"application_name": application},
        },
    )
    pool = engine.sync_engine.pool
    in_use = metrics.pool_in_use(application, name, size)
    event.listen(pool, "checkin", partial(_remember_use, in_use))
    event.listen(pool, "checkout", partial(_check_idle, engine.dialect))
    event.listen(pool, "checkout", partial(_count_use, in_use))
    return engine


def _remember_use(in_use: Gauge, _: Any, record: ConnectionPoolEntry) -> None:
    record.info["used_at"] = time.monotonic()
    assert record.record_info is not None
    if record.record_info.pop("is_counted", False):
        in_use.dec()


def _count_use(in_use: Gauge, _: Any, record: ConnectionPoolEntry, __: Any) -> None:
    assert record.record_info is not None
    record.record_info["is_counted"] = True  # `info` would be lost when the connection breaks
    in_use.inc()


def _check_idle(dialect: Dialect, connection: Any, record: ConnectionPoolEntry, _: Any) -> None:
    """Test a connection that was idle for `_IDLE_CHECK_S` before it is used.

    Testing each time (`pool_pre_ping`) costs three round trips a transaction. A connection that breaks in use fails
    its transaction, which is retried or answered with 503.
    """
    if time.monotonic() - record.info.get("used_at", 0.0) < _IDLE_CHECK_S:
        return
    try:
        alive = dialect.do_ping(connection)
    except dialect.loaded_dbapi.Error:
        alive = False
    if not alive:
        raise DisconnectionError


@event.listens_for(Session, "after_begin")
def _set_organisation(session: Session, _: SessionTransaction, connection: Any) -> None:
    organisation = session.info.get("organisation_id")
    if organisation is not None:
        connection.execute(_SET_ORGANISATION, {"organisation": organisation})


def tenant_of(session: AsyncSession) -> Tenant:
    """Return where single statements run in the transaction of a tenant session."""
    return Tenant(session.info["source"], session.info["organisation_id"], session)


def after_commit(session: AsyncSession, action: Callable[[], None]) -> None:
    """Call `action`, such as counting a metric, when the session commits. A rollback forgets it."""
    session.info.setdefault("after_commit", []).append(action)


def wake_after_commit(session: AsyncSession, name: str) -> None:
    """Wake the loops that wait for `name` when the session commits."""
    session.info.setdefault("to_wake", set()).add(name)


@event.listens_for(Session, "after_commit")
def _act_after_commit(session: Session) -> None:
    for action in session.info.pop("after_commit", ()):
        action()
    names = session.info.pop("to_wake", None)
    if names:
        session.info["source"].wakes.wake(*names)


def is_transient(error: BaseException) -> bool:
    """Return whether a transaction that failed with this error may succeed when all of it is retried."""
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None) or ""
        is_standby = isinstance(getattr(error.orig, "__cause__", None), asyncpg.TargetServerAttributeNotMatched)
        return error.connection_invalidated or is_standby or any(state.startswith(code) for code in _TRANSIENT)
    return isinstance(error, _NOT_CONNECTED)


async def in_transaction(
    begin: Callable[[], AbstractAsyncContextManager[AsyncSession]],
    work: Callable[[AsyncSession], Awaitable[T]],
    *,
    retry_for_s: float = 60.0,
) -> T:
    """Run `work` in a transaction. Retry the whole transaction on transient errors for `retry_for_s` seconds."""
    deadline, pause = time.monotonic() + retry_for_s, 0.05
    while True:
        try:
            async with begin() as session:
                return await work(session)
        except Exception as error:
            if not is_transient(error) or time.monotonic() + pause > deadline:
                raise
            log.warning("transaction retried", error=type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)


async def check_database(database: Database) -> None:
    """Raise Unavailable when the database does not answer within 3 s."""
    try:
        async with asyncio.timeout(3), database.all_tenants() as session:
            await session.execute(text("SELECT 1"))
    except (DBAPIError, OSError, TimeoutError) as error:
        raise Unavailable(f"database: {type(error).__name__}", extra={"database": "unavailable"}) from None
