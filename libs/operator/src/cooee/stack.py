"""Access of the commands to the services: their settings, databases and gateway, as the environment names them."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from pydantic import ValidationError
from pydantic_settings import BaseSettings
from sqlalchemy import Row, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession

from common.database import Database
from common.settings import InvalidSetting, env_name, read_secret_files
from cooee import embedded
from cooee.errors import CommandError, Unreachable, WrongSettings
from delivery.settings import Settings

SettingsT = TypeVar("SettingsT", bound=BaseSettings)
STORES = ("contacts", "scheduling", "delivery")
# The codes of PostgreSQL for a connection that failed: connection lost, log-in, unknown database, too many connections,
# and a server that stops or starts.
_NOT_CONNECTED = ("08", "28", "3D", "53300", "57P")
_SHARED_SESSIONS = 3


class Stack:
    """The services of one system.

    Providers read their settings from the environment of this process, so it must agree with `environment`.
    """

    def __init__(self, environment: Mapping[str, str], description: str = "the environment variables") -> None:
        """Set the environment variables of the services, and what a person calls their source."""
        self.environment = environment
        self.description = description
        self._shared: dict[str, Database] | None = None

    @classmethod
    def from_environment(cls) -> "Stack":
        """Use the environment of the running embedded stack in `COOEE_HOME`, and nothing of this process.

        When none runs, use the environment of this process. If that does not name the databases, the stack in
        `COOEE_HOME` fills in what is not set. Raises WrongSettings when a file of SECRETS_FOLDER cannot be read.
        """
        try:
            read_secret_files()
        except InvalidSetting as error:
            raise WrongSettings(str(error)) from None
        home = Path(os.environ.get("COOEE_HOME") or ".cooee")
        if running := embedded.running_environment(home):
            os.environ.clear()  # a variable of the shell must not lead a command to another server
            os.environ |= running
            return cls(running, f"the running stack in {home}")
        if all(os.environ.get(_database_variable(service)) for service in STORES):
            return cls(os.environ)
        if environment := embedded.stored_environment(home, os.environ):
            os.environ.update(environment)
            return cls(environment, f"the stack in {home}, which does not run")
        return cls(os.environ)

    @property
    def gateway_url(self) -> str:
        """The address of the gateway. Raises WrongSettings when no variable names it."""
        if url := self.environment.get("GATEWAY_URL"):
            return url
        if self.environment.get("COOEE_HOME") and (port := self.environment.get("GATEWAY_PORT")):
            return f"http://127.0.0.1:{port}"
        if url := self.environment.get("PUBLIC_URL"):
            return url
        raise WrongSettings("the address of the gateway is not known: set --gateway or GATEWAY_URL")

    def delivery_settings(self, **changes: Any) -> Settings:
        """Return delivery's settings with changes. Raises WrongSettings when one is missing or invalid."""
        return self.read_settings(Settings, "delivery's settings", **changes)

    def read_settings(self, settings: type[SettingsT], subject: str, **changes: Any) -> SettingsT:
        """Return the settings of a class with changes. Raises WrongSettings when one is missing or invalid."""
        names = {field: env_name(settings, field) for field in settings.model_fields}
        values = {field: self.environment[name] for field, name in names.items() if self.environment.get(name)}
        try:
            return settings(_env_file=None, **(values | changes))
        except ValidationError as error:  # its own text has the values, and some of them are secret
            problems = error.errors(include_input=False, include_url=False)
            found = ((str(problem["loc"][0]) if problem["loc"] else "", problem["msg"]) for problem in problems)
            described = "; ".join(f"{names.get(field, field) or 'settings'}: {reason}" for field, reason in found)
            raise WrongSettings(f"{subject}: {described}") from None

    @asynccontextmanager
    async def shared_connections(self) -> AsyncIterator[None]:
        """Let the sessions within share the connections of each service: at most `_SHARED_SESSIONS` at once.

        Opening a connection takes longer than a small transaction. A fourth session at once waits up to 2 s, then
        fails.
        """
        self._shared = {}
        try:
            yield
        finally:
            shared, self._shared = self._shared, None
            for database in shared.values():
                await database.close()

    @asynccontextmanager
    async def session(self, service: str, organisation: str | None = None) -> AsyncIterator[AsyncSession]:
        """Begin a transaction in a service's schema that sees one organisation, or every one.

        Raises Unreachable, WrongSettings when the environment does not name the database, and CommandError for
        another error of the database.
        """
        shared = self._shared
        database = self._open(service) if shared is None or service not in shared else shared[service]
        if shared is not None:
            shared[service] = database
        try:
            async with database.all_tenants() if organisation is None else database.tenant(organisation) as session:
                yield session
        except (OSError, DBAPIError, PoolTimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            problem = f"{service}'s database: {_reason(error)}"
            if _is_unreachable(error):
                raise Unreachable(problem) from None
            # The error itself has the values of the statement, and they may be phones.
            raise CommandError(f"an error of cooee itself: {problem} (--debug prints where)") from None
        finally:
            if shared is None:
                await database.close()

    def _open(self, service: str) -> Database:
        """Return a service's database. Raises WrongSettings when the environment does not name one."""
        variable = _database_variable(service)
        if not (url := self.environment.get(variable)):
            raise WrongSettings(f"{variable} is not set: set it, or set COOEE_HOME to the folder of an embedded stack")
        size = 1 if self._shared is None else _SHARED_SESSIONS
        try:
            return Database(url, "operator", tenant_pool=size, all_pool=size)
        except (SQLAlchemyError, ValueError):  # their texts may have the password
            raise WrongSettings(f"{variable} is not the URL of a PostgreSQL database") from None

    async def rows(self, service: str, statement: str, **parameters: Any) -> Sequence[Row[Any]]:
        """Return the rows of a statement in a service's database."""
        async with self.session(service) as session:
            return (await session.execute(text(statement), parameters)).all()


def _database_variable(service: str) -> str:
    return f"{service.upper()}_DATABASE_URL"


def _is_unreachable(error: Exception) -> bool:
    """Return whether the connection failed, and not a statement."""
    if not isinstance(error, DBAPIError):
        return True
    state = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state.startswith(_NOT_CONNECTED)


def _reason(error: Exception) -> str:
    """Return what the server or the system said, without the names of Python's classes and the values of rows."""
    original = error.orig if isinstance(error, DBAPIError) else error
    said = original.__cause__ or original if original is not None else error
    # The text of an error of the server has the detail, too, such as the key of a row.
    return str(said.args[0] if isinstance(said, asyncpg.PostgresError) else said) or type(said).__name__
