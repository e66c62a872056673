"""`python -m <service> api|worker|migrate`: the command line that starts every process of Cooee."""

import asyncio
import gc
import importlib
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
import uvloop
from starlette.types import ASGIApp

from common import error_reports, tracing
from common.logs import configure_logs
from common.settings import (
    CommonSettings,
    InvalidSetting,
    SettingsT,
    StoreSettings,
    load_settings,
    read_secret_files,
)
from common.worker import Worker
from common.worker import run as run_worker

log = structlog.get_logger()
_SERVICE = "COOEE_SERVICE"  # the service of the processes of an API


def main(settings_class: type[SettingsT]) -> None:
    """Run the role that the command line names, with settings from the environment.

    Each role imports only its own entry point, `<service>.app:create_app` or `<service>.worker:create_worker`, so a
    worker does not load the web framework's routes.
    """
    service = settings_class.service
    roles = ["api", "worker", "migrate"] if issubclass(settings_class, StoreSettings) else ["api"]
    if len(sys.argv) != 2 or sys.argv[1] not in roles:
        print(f"usage: python -m {service} {'|'.join(roles)}", file=sys.stderr)
        raise SystemExit(2)
    role = sys.argv[1]
    try:
        read_secret_files()
        settings = load_settings(settings_class)
        _prepare(settings, role)
        raise SystemExit(_run(role, settings))
    except InvalidSetting as error:
        print(f"{service}: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _prepare(settings: CommonSettings, role: str) -> None:
    report = error_reports.start(settings, role)
    configure_logs(settings.service, role, settings.log_format, settings.log_level, report=report)
    tracing.start(settings, role)
    # Batches and requests create many short-lived objects. The default thresholds spent a tenth of a process on
    # collections that found nothing.
    gc.set_threshold(50_000, 20, 50)


def _run(role: str, settings: CommonSettings) -> int:
    if role == "api":
        _run_api(settings)
    elif role == "worker":
        return uvloop.run(_run_worker(settings, importlib.import_module(f"{settings.service}.worker").create_worker))
    elif isinstance(settings, StoreSettings):
        _run_migrate(settings)
    return 0


def _run_api(settings: CommonSettings) -> None:
    """Serve the API in this process, or with `API_WORKERS` in several that share the port."""
    import uvicorn  # noqa: PLC0415  # only this role needs it

    from common.http.draining import DrainingServer  # noqa: PLC0415  # as above
    from common.http.server_limits import HttpLimits, server_options  # noqa: PLC0415  # as above
    from common.metrics import shared_by_processes  # noqa: PLC0415  # as above

    options = {
        "host": settings.bind_host,
        "port": settings.port,
        "loop": "uvloop",
        "log_config": None,
        "access_log": False,
        "forwarded_allow_ips": settings.forwarded_allow_ips,
        "timeout_keep_alive": 75,
        "timeout_graceful_shutdown": int(settings.stop_timeout_s / 2),
        **server_options(HttpLimits.of(settings)),
    }
    if settings.api_workers == 1:
        server = DrainingServer(uvicorn.Config(_create_app(settings), **options), settings.drain_s)
        with suppress(KeyboardInterrupt):
            server.run()
        if not server.started:
            raise SystemExit(uvicorn.config.STARTUP_FAILURE)
        return
    os.environ[_SERVICE] = settings.service  # uvicorn starts each process anew and imports the application by its name
    with shared_by_processes():
        uvicorn.run("common.cli:create_app_of_environment", factory=True, workers=settings.api_workers, **options)


def create_app_of_environment() -> ASGIApp:
    """Return the application in one of several API processes, with settings from the environment."""
    service = os.environ[_SERVICE]
    settings = load_settings(importlib.import_module(f"{service}.settings").Settings)
    _prepare(settings, "api")
    return _create_app(settings)


def _create_app(settings: CommonSettings) -> ASGIApp:
    app: ASGIApp = importlib.import_module(f"{settings.service}.app").create_app(settings)
    return tracing.wrap_app(app, settings.service)


async def _run_worker(settings: SettingsT, create_worker: Callable[[SettingsT], Awaitable[Worker]]) -> int:
    return await run_worker(await create_worker(settings))


def _run_migrate(settings: StoreSettings) -> None:
    """Create roles and schema as administrator (`DATABASE_URL`, needed only here), then migrate as owner."""
    from common.migrations import migrate, provision  # noqa: PLC0415  # only this role needs Alembic

    admin_url = os.environ.get("DATABASE_URL")
    url = settings.database_url.get_secret_value()
    if admin_url:
        asyncio.run(provision(admin_url, url, settings.service))
    migrate(url, settings.service)
    log.info("schema is up to date")
