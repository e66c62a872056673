"""Injects the faults of a plan into the processes of a stack and the connections between them."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tools.chaos.kafka import KafkaContainer
from tools.chaos.plan import BROKER, LINKS, Fault, FaultKind
from tools.chaos.proxy import TcpProxy
from tools.embedded.environment import DATABASE, HOST, PORTS, STORES
from tools.embedded.supervisor import Stack

_PORT_VARIABLES = {
    "postgres": "POSTGRES_PORT",
    "handset": "HANDSET_PORT",
    **{f"{service} api": f"{service.upper()}_PORT" for service in STORES},
}


def make_proxies(environment: dict[str, str]) -> dict[str, TcpProxy]:
    """Return the proxies by target, and change the addresses in the environment of a stack so that they are used.

    Twilio's address stays the handset's own, so that a killed handset also refuses connections. The broker gives its
    own address to its clients, so it has no proxy.
    """
    assert set(_PORT_VARIABLES) == set(LINKS)
    assert set(_PORT_VARIABLES.values()) <= set(PORTS)
    proxies = {name: TcpProxy(int(environment[variable])) for name, variable in _PORT_VARIABLES.items()}
    for service in STORES:
        password = environment[f"{service.upper()}_DATABASE_PASSWORD"]
        address = f"{HOST}:{proxies['postgres'].port}/{DATABASE}"
        environment[f"{service.upper()}_DATABASE_URL"] = f"postgresql://{service}:{password}@{address}"
        environment[f"{service.upper()}_URL"] = f"http://{HOST}:{proxies[f'{service} api'].port}"
    for provider in ("MOBILE_MESSAGE", "MESSAGEMEDIA"):
        environment[f"{provider}_BASE_URL"] = f"http://{HOST}:{proxies['handset'].port}/{provider.lower()}"
    return proxies


class Injector:
    """Injects faults at their times. `injected` has those that happened."""

    def __init__(
        self,
        stack: Stack,
        proxies: Mapping[str, TcpProxy],
        say: Callable[[str], None],
        kafka: KafkaContainer | None = None,
    ) -> None:
        """Set the targets. `say` gets a line for each fault. `kafka` is the broker, if the stack has none."""
        self._stack, self._proxies, self._say, self._kafka = stack, proxies, say, kafka
        self.injected: list[Fault] = []
        self.ended_at = time.time()

    async def run(self, plan: Sequence[Fault]) -> None:
        """Inject all faults, and return when the last one is over."""
        start = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            for fault in plan:
                await asyncio.sleep(max(0.0, start + fault.at_s - asyncio.get_running_loop().time()))
                tasks.create_task(self._inject(fault))
        self.ended_at = time.time()

    async def is_broker_ready(self) -> bool:
        """Return whether the container with the broker answers. Without a container it counts as ready."""
        return self._kafka is None or await self._kafka.is_ready()

    async def _inject(self, fault: Fault) -> None:
        self._say(f"fault   {fault.describe()}")
        try:
            await self._apply(fault)
        except ProcessLookupError:
            self._say(f"        {fault.target} did not run, so the fault had no effect")
        else:
            self.injected.append(fault)

    async def _apply(self, fault: Fault) -> None:
        if fault.target == BROKER and self._kafka:
            await self._kafka.apply(fault)
            return
        match fault.kind:
            case FaultKind.KILL:
                os.kill(self._stack.pid(fault.target), signal.SIGKILL)
            case FaultKind.STOP:
                is_postgres = fault.target == "postgres"
                os.kill(self._stack.pid(fault.target), signal.SIGINT if is_postgres else signal.SIGTERM)
            case FaultKind.FREEZE:
                await self._freeze(fault)
            case FaultKind.CUT:
                await self._proxies[fault.target].cut()
                await asyncio.sleep(fault.duration_s)
                await self._proxies[fault.target].start()
            case FaultKind.SLOW:
                self._proxies[fault.target].delay_s = fault.delay_s
                await asyncio.sleep(fault.duration_s)
                self._proxies[fault.target].delay_s = 0.0

    async def _freeze(self, fault: Fault) -> None:
        frozen = with_subprocesses(self._stack.pid(fault.target))
        os.kill(frozen[0], signal.SIGSTOP)
        try:
            for pid in frozen[1:]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(fault.duration_s)
        finally:
            for pid in frozen:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


def with_subprocesses(pid: int) -> list[int]:
    """Return a process and all its subprocesses. Those of PostgreSQL are not in its process group."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            found += map(int, Path(f"/proc/{each}/task/{each}/children").read_text().split())
    return found
