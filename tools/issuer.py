"""Publish the local issuer's public key at /.well-known/jwks.json, as Clerk does: `python -m tools.issuer`."""

import asyncio
import os
import signal
from pathlib import Path

from aiohttp import web

from tools.token import DEFAULT_ISSUER_PORT, key_set


async def serve(host: str, port: int, home: Path) -> None:
    """Serve the key set until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    document = key_set(home)

    async def keys(_: web.Request) -> web.Response:
        return web.json_response(document)

    app = web.Application()
    app.router.add_get("/.well-known/jwks.json", keys)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    print(f"issuer ready http://{host}:{port}", flush=True)
    await stopping.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(
        serve(
            os.environ.get("ISSUER_HOST") or "127.0.0.1",
            int(os.environ.get("ISSUER_PORT") or DEFAULT_ISSUER_PORT),
            Path(os.environ.get("COOEE_HOME") or ".cooee"),
        )
    )
