"""`python -m <service> api|worker|migrate`: how every process of Cooee is started, and named in the process list."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI

from common.logs import configure_logs
from common.migrations import migrate, provision
from common.settings import CommonSettings, SettingsT, StoreSettings, load_settings
from common.worker import Worker
from common.worker import run as run_worker

log = structlog.get_logger()


def main(
    settings_class: type[SettingsT],
    create_app: Callable[[SettingsT], FastAPI],
    create_worker: Callable[[SettingsT], Awaitable[Worker]] | None = None,
) -> None:
    """Runs the role that the command line names, with settings from the environment."""
    roles = ["api"] if create_worker is None else ["api", "worker", "migrate"]
    if len(sys.argv) != 2 or sys.argv[1] not in roles:
        print(f"usage: python -m {settings_class.service} {'|'.join(roles)}", file=sys.stderr)
        raise SystemExit(2)
    role = sys.argv[1]
    settings = load_settings(settings_class)
    configure_logs(settings.service, role, settings.log_format, settings.log_level)
    if role == "api":
        _run_api(settings, create_app(settings))
    elif role == "worker" and create_worker is not None:
        raise SystemExit(uvloop.run(_run_worker(settings, create_worker)))
    elif isinstance(settings, StoreSettings):
        _run_migrate(settings)


def _run_api(settings: CommonSettings, app: FastAPI) -> None:
    uvicorn.run(
        app,
        host=settings.bind_host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(settings.stop_timeout_s / 2),
    )


async def _run_worker(settings: SettingsT, create_worker: Callable[[SettingsT], Awaitable[Worker]]) -> int:
    return await run_worker(await create_worker(settings))


def _run_migrate(settings: StoreSettings) -> None:
    """Roles and schema as administrator (`DATABASE_URL`, only needed here), then the migrations as owner."""
    admin_url = os.environ.get("DATABASE_URL")
    url = settings.database_url.get_secret_value()
    if admin_url:
        asyncio.run(provision(admin_url, url, settings.service))
    migrate(url, settings.service)
    log.info("schema is up to date")
