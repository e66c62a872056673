"""Access of the commands to the services: their settings and databases, as the environment names them."""

import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from common.database import Database
from common.settings import env_name
from delivery.settings import Settings
from tools.embedded.environment import DATABASE, HOST, STORES, add_databases, stack_environment


class OperatorError(RuntimeError):
    """The command cannot do what was asked. The message says why and what to do."""


class Stack:
    """The services of one system.

    Providers read their settings from the environment of this process, so it must agree with `environment`.
    """

    def __init__(self, environment: Mapping[str, str], description: str = "the environment variables") -> None:
        """Set the environment variables of the services, and what a person calls their source."""
        self.environment = environment
        self.description = description

    @classmethod
    def from_environment(cls) -> "Stack":
        """Use the environment of the running embedded stack in `COOEE_HOME`, and nothing of this process.

        When none runs, use the environment of this process, in which the stack in `COOEE_HOME` fills in what is not
        set. Raises OperatorError when neither names the databases.
        """
        home = Path(os.environ.get("COOEE_HOME") or ".cooee")
        if running := _running_environment(home):
            os.environ.clear()  # a variable of the shell must not lead a command to another server
            os.environ |= running
            return cls(running, f"the running stack in {home}")
        if all(os.environ.get(f"{service.upper()}_DATABASE_URL") for service in STORES):
            return cls(os.environ)
        if not (home / "secrets.json").exists():
            names = ", ".join(f"{service.upper()}_DATABASE_URL" for service in STORES)
            raise OperatorError(f"there is no embedded stack in {home}: set COOEE_HOME, or {names}")
        environment = stack_environment(home, os.environ | _running(home))
        environment.setdefault("KAFKA_BOOTSTRAP_SERVERS", f"{HOST}:{environment['KAFKA_PORT']}")
        add_databases(environment, f"postgresql://{HOST}:{environment['POSTGRES_PORT']}/{DATABASE}")
        os.environ.update(environment)
        return cls(environment, f"the stack in {home}, which does not run")

    def delivery_settings(self, **changes: Any) -> Settings:
        """Return delivery's settings with changes. Raises ValueError when one is missing or invalid."""
        names = {field: env_name(Settings, field) for field in Settings.model_fields}
        values = {field: self.environment[name] for field, name in names.items() if self.environment.get(name)}
        return Settings(_env_file=None, **(values | changes))

    @asynccontextmanager
    async def session(self, service: str) -> AsyncIterator[AsyncSession]:
        """Begin a transaction in a service's schema that sees every organisation. Raises OperatorError."""
        url = self.environment.get(f"{service.upper()}_DATABASE_URL")
        if not url:
            raise OperatorError(f"{service.upper()}_DATABASE_URL is not set")
        database = Database(url, "operator", tenant_pool=1, all_pool=1)
        try:
            async with database.all_tenants() as session:
                yield session
        except (OSError, DBAPIError) as error:
            raise OperatorError(f"{service}'s database: {getattr(error, 'orig', None) or error}") from None
        finally:
            await database.close()

    async def rows(self, service: str, statement: str, **parameters: Any) -> Sequence[Row[Any]]:
        """Return the rows of a statement in a service's database."""
        async with self.session(service) as session:
            return (await session.execute(text(statement), parameters)).all()


def _running_environment(home: Path) -> dict[str, str]:
    """Return the environment of the delivery worker of the running stack, or nothing when none runs."""
    try:
        pid = json.loads((home / "stack.json").read_text())["delivery worker"]["pid"]
        content = Path(f"/proc/{pid}/environ").read_bytes()
    except (OSError, ValueError, KeyError):
        return {}
    variables = (os.fsdecode(entry).partition("=") for entry in content.split(b"\0") if entry)
    environment = {name: value for name, _, value in variables}
    # A stack that was killed leaves its file behind, and its process ids may belong to others now.
    return environment if environment.get("COOEE_HOME") == str(home.absolute()) else {}


def _running(home: Path) -> dict[str, str]:
    """Return the ports and provider chains of the running stack, which may differ from the defaults."""
    try:
        running = json.loads((home / "stack.json").read_text())
    except (OSError, ValueError):
        return {}
    ports = {"POSTGRES_PORT": "postgres", "KAFKA_PORT": "broker", "HANDSET_PORT": "handset"}
    found = {variable: str(running[name]["port"]) for variable, name in ports.items() if name in running}
    chains = running.get("delivery worker", {})
    return found | {f"{kind.upper()}_PROVIDERS": chains[kind] for kind in ("sms", "mms") if kind in chains}


def show_time(moment: datetime | None) -> str:
    """Return a time in UTC, to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z" if moment else "-"


def show_age(moment: datetime | None) -> str:
    """Return the time since or until a moment, in the largest unit that fits."""
    if moment is None:
        return "-"
    seconds = (datetime.now(UTC) - moment).total_seconds()
    for symbol, length_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if abs(seconds) >= length_s * 2:
            return f"{abs(seconds) / length_s:.0f} {symbol}" + (" ago" if seconds > 0 else " ahead")
    return f"{abs(seconds):.0f} s" + (" ago" if seconds > 0 else " ahead")


def mask(phone: str | None, reveal: bool) -> str:
    """Return a phone with its middle digits hidden, unless `reveal` is set."""
    return phone or "-" if reveal or not phone else f"{phone[:4]}…{phone[-2:]}"


def read_since(value: str) -> datetime:
    """Read a time in ISO 8601, or an age such as `90m`, `6h`, `2d`. Raises ValueError."""
    symbols = {"m": "minutes", "h": "hours", "d": "days"}
    if value[:-1].isdigit() and value[-1] in symbols:
        return datetime.now(UTC) - timedelta(**{symbols[value[-1]]: int(value[:-1])})
    moment = datetime.fromisoformat(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
