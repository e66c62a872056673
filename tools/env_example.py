"""Generate .env.example, the list of all settings, from the settings classes: `python -m tools.env_example`.

`--check` only compares the file with the classes. A setting gets its description and default from its class. The
variables of the tools and of docker-compose.yml have no class, so they are listed here.
"""

import argparse
import importlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from common.settings import CommonSettings, StoreSettings, env_name
from common.topics import TopicSettings
from cooee.page.settings import PageSettings
from delivery import providers, storage
from tools.embedded.environment import PORTS

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / ".env.example"
_WIDTH = 120
_SERVICES = ("gateway", "contacts", "scheduling", "delivery")
# The fields that every service names after itself, such as GATEWAY_PORT.
_OF_ONE_SERVICE = {"port", "worker_port", "database_url"}
_HEADER = """\
# Every setting of Cooee with its default. A variable that is not commented out has no default: set it where its service
# runs. The embedded stack (`make run`, `make demo`) and docker-compose.yml set all of them for development.
#
# `make docs` generates this file from the settings classes.
"""

Variable = tuple[str, str | None, str]
"""A variable: its name, its default (None: there is none) and its description."""

DATABASE_VARIABLES: tuple[Variable, ...] = (
    ("DATABASE_URL", None, "the database as its administrator; only the command `migrate` of a service uses it"),
)
OPERATOR_VARIABLES: tuple[Variable, ...] = (
    ("GATEWAY_URL", "", "the gateway that `cooee health` asks; empty: that of the embedded stack, or PUBLIC_URL"),
)
PROCESS_VARIABLES: tuple[Variable, ...] = (
    (
        "SECRETS_FOLDER",
        "",
        "folder of files that set variables which are not set: `database_url` sets DATABASE_URL to its content",
    ),
)
TOOL_VARIABLES: tuple[Variable, ...] = (
    ("COOEE_HOME", ".cooee", "folder of the embedded stack"),
    *((name, str(port), "") for name, port in PORTS.items()),
    ("ISSUER_HOST", "127.0.0.1", "address of the local issuer of session tokens"),
    ("HANDSET_HOST", "127.0.0.1", "address of the handset"),
    ("HANDSET_LOG", ".cooee/handset.jsonl", "the file in which the handset stores messages"),
    ("HANDSET_LATENCY_MS", "0", "delay of the handset's answers"),
    ("HANDSET_CONCURRENCY", "0", "requests in flight before the handset answers 429; 0: no limit"),
    ("HANDSET_USERNAME", "", "credentials of Mobile Message at the handset; empty: any are accepted"),
    ("HANDSET_PASSWORD", "", ""),
    ("HANDSET_RECEIPTS", "off", "on: the handset sends delivery receipts for each message"),
    ("HANDSET_WEBHOOK_BASE", "", "the handset's webhooks go to this address followed by /<provider>/<kind>/"),
)
COMPOSE_VARIABLES: tuple[Variable, ...] = (
    ("COMPOSE_PROJECT_NAME", "cooee", ""),
    ("POSTGRES_PASSWORD", "development-only-postgres", ""),
    ("CONTACTS_DATABASE_PASSWORD", "development-only-contacts", ""),
    ("SCHEDULING_DATABASE_PASSWORD", "development-only-scheduling", ""),
    ("DELIVERY_DATABASE_PASSWORD", "development-only-delivery", ""),
    ("PROMETHEUS_PORT", "9090", "of the profile `observability`"),
    ("GRAFANA_PORT", "3030", ""),
)


def build() -> str:
    """Return the content of the file."""
    listed: set[str] = set()
    parts = [_HEADER]
    for title, variables in _sections():
        new = [variable for variable in variables if variable[0] not in listed]
        listed |= {name for name, _, _ in new}
        if new:
            parts.append(f"# --- {title}\n" + "".join(map(_render, new)))
    return "\n".join(parts)


def _sections() -> Iterator[tuple[str, list[Variable]]]:
    """Yield each section's title and variables. A variable of several sections is listed in the first of them."""
    yield "all services", [*_variables(CommonSettings, without=_OF_ONE_SERVICE), *PROCESS_VARIABLES]
    yield "contacts, scheduling and delivery", list(_variables(StoreSettings, without=_OF_ONE_SERVICE))
    for service in _SERVICES:
        yield service, list(_variables(importlib.import_module(f"{service}.settings").Settings))
    for entry, settings in zip(providers.PROVIDERS, providers.settings_classes(), strict=True):
        yield f"delivery, provider {entry}", list(_variables(settings))
    for entry, settings in zip(storage.STORAGES, storage.settings_classes(), strict=True):
        yield f"delivery, storage {entry}", list(_variables(settings))
    yield "topics (`python -m common topics`)", list(_variables(TopicSettings))
    yield "set-up of the databases", list(DATABASE_VARIABLES)
    yield "operator's commands (`cooee`)", [*OPERATOR_VARIABLES, *_variables(PageSettings)]
    yield "embedded stack and tools", list(TOOL_VARIABLES)
    yield "docker-compose.yml", list(COMPOSE_VARIABLES)


def _variables(settings: type[BaseSettings], without: set[str] | None = None) -> Iterator[Variable]:
    for name, field in settings.model_fields.items():
        if name not in (without or ()):
            yield env_name(settings, name), _default(field), field.description or ""


def _default(field: FieldInfo) -> str | None:
    """Return the default as text, or None for a required field. Empty values and secrets are an empty text."""
    if field.is_required():
        return None
    value: Any = field.get_default(call_default_factory=True)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "" if value in (None, (), {}) else str(value)


def _render(variable: Variable) -> str:
    name, default, description = variable
    comment = "".join(f"# {line}\n" for line in textwrap.wrap(description, _WIDTH - 2))
    return comment + (f"{name}=\n" if default is None else f"# {name}={default}\n")


def main() -> int:
    """Write the file, or check it. Return 1 when the check fails."""
    parser = argparse.ArgumentParser(prog="python -m tools.env_example", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare the file with the settings, and write nothing")
    content = build()
    if not parser.parse_args().check:
        EXAMPLE.write_text(content)
        print(EXAMPLE.relative_to(ROOT))
        return 0
    if EXAMPLE.read_text() != content:
        print(f"{EXAMPLE.relative_to(ROOT)} differs from the settings: run `make docs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
