"""Stop an API without a failed request, when another replica takes over."""

import asyncio
import socket

import structlog
import uvicorn

log = structlog.get_logger("http")

_CLOSE = (b"connection", b"close")
_LOOK_S = 0.1


class DrainingServer(uvicorn.Server):
    """uvicorn's server, which serves for `drain_s` seconds more after it was asked to stop.

    A server that closes an idle connection may meet a request that is on its way, and the client then cannot know
    whether the request was executed. While the server drains, each answer has `Connection: close`, so the client
    itself gives up the connection at a moment without a request. New connections are served, too, until the name of
    this server leads clients to the other replicas.
    """

    def __init__(self, config: uvicorn.Config, drain_s: float) -> None:
        super().__init__(config)
        self._drain_s = drain_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then stop as uvicorn does. A second signal ends the draining."""
        if self._drain_s:
            log.info("draining", seconds=self._drain_s)
            self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]
            now = asyncio.get_running_loop().time
            deadline = now() + self._drain_s
            while now() < deadline and not self.force_exit:  # noqa: ASYNC110  # a signal sets it
                await asyncio.sleep(_LOOK_S)
        await super().shutdown(sockets)
