"""Stop an API without a failed request, when another replica takes over."""

import asyncio
import socket

import structlog
import uvicorn

log = structlog.get_logger("http")

_CLOSE = (b"connection", b"close")
_POLL_S = 0.1


class DrainingServer(uvicorn.Server):
    """uvicorn's server. After SIGTERM it serves open connections for up to `drain_s` seconds, then it stops.

    If a server closes an idle connection while a request is on its way, the client cannot know whether the request was
    executed. So while this server drains, each answer has `Connection: close`, and the client itself closes the
    connection after it. New connections are refused, so that clients connect to another replica. The draining ends when
    no connection is open.
    """

    def __init__(self, config: uvicorn.Config, drain_s: float) -> None:
        super().__init__(config)
        self._drain_s = drain_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then stop as uvicorn does. A second signal ends the draining."""
        if self._drain_s:
            await self._drain(sockets or [])
        await super().shutdown(sockets)

    async def _drain(self, sockets: list[socket.socket]) -> None:
        state, now = self.server_state, asyncio.get_running_loop().time
        log.info("draining", connections=len(state.connections))
        state.default_headers = [*state.default_headers, _CLOSE]
        for server in self.servers:
            server.close()
        for listener in sockets:
            listener.close()
        deadline = now() + self._drain_s
        await asyncio.sleep(_POLL_S)  # the connections that were just accepted become known
        while state.connections and now() < deadline and not self.force_exit:  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(_POLL_S)
