"""Decide which provider sends a message: the first available one of its organisation's provider chain."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from delivery.configs import service as configs
from delivery.configs.rules import Routing
from delivery.sending.throttling import CircuitBreaker, Clock

Chain = Sequence[str]

_MAX_AGE_S = 0.5  # a changed config counts within a second


class Availability:
    """The circuits of the providers of one process.

    A provider worker ends its submissions on its circuit. The router and the other workers read the circuits.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self._circuits: dict[str, CircuitBreaker] = {}
        self._formats: dict[str, frozenset[str]] = {}

    def add(self, provider: str, formats: Iterable[str]) -> CircuitBreaker:
        """Add a provider that sends these formats, and return its circuit."""
        self._formats[provider] = frozenset(formats)
        self._circuits[provider] = CircuitBreaker(self.clock)
        return self._circuits[provider]

    def available(self) -> frozenset[str]:
        """Return the providers whose circuit is closed."""
        return frozenset(name for name, circuit in self._circuits.items() if circuit.state == "closed")

    def has_alternative(self, provider: str) -> bool:
        """Return whether another provider is available that shares a format with this one."""
        return any(self._formats[other] & self._formats[provider] for other in self.available() - {provider})


@dataclass(frozen=True, slots=True)
class Share:
    """The organisations whose messages a provider sends: `organisations`, or, with `others`, all except these."""

    organisations: Sequence[str]
    others: bool


@dataclass(frozen=True, slots=True)
class Route:
    """What a provider worker may claim of a format, and the organisations' own sender IDs."""

    share: Share
    sender_ids: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RouteTable:
    """All routes at one moment.

    `chains` are the installation's provider chains by format. `own_chains` are those of organisations that have their
    own: format → organisation → chain. `sender_ids` are the organisations' own.
    """

    chains: Mapping[str, Chain]
    own_chains: Mapping[str, Mapping[str, Chain]]
    sender_ids: Mapping[str, str]
    _shares: dict[tuple[str, str, frozenset[str]], Share | None] = field(default_factory=dict)

    def share(self, message_format: str, provider: str, available: frozenset[str]) -> Share | None:
        """Return whose messages of a format the provider sends while these are available. None is nobody's."""
        key = (message_format, provider, available)
        if key not in self._shares:
            self._shares[key] = self._find_share(message_format, provider, available)
        return self._shares[key]

    def _find_share(self, message_format: str, provider: str, available: frozenset[str]) -> Share | None:
        own = self.own_chains.get(message_format, {})
        mine = [organisation for organisation, chain in own.items() if _first(chain, available) == provider]
        if _first(self.chains[message_format], available) == provider:
            return Share(sorted(own.keys() - set(mine)), others=True)
        return Share(sorted(mine), others=False) if mine else None


def _first(chain: Chain, available: frozenset[str]) -> str | None:
    return next((name for name in chain if name in available), None)


def make_routes(chains: Mapping[str, Chain], routings: Iterable[Routing]) -> RouteTable:
    """Return the routes from the installation's chains and from what organisations chose.

    A chosen provider that the installation does not have any more is ignored. An organisation whose chain is empty then
    uses the installation's chain.
    """
    own: dict[str, dict[str, Chain]] = {message_format: {} for message_format in chains}
    sender_ids: dict[str, str] = {}
    for routing in routings:
        for message_format, names in routing.chains.items():
            known = [name for name in names if name in chains[message_format]]
            if known:
                own[message_format][routing.organisation_id] = known
        if routing.sender_id is not None:
            sender_ids[routing.organisation_id] = routing.sender_id
    return RouteTable(chains, own, sender_ids)


class Router:
    """The current routes of one process. They are read again when they are older than `max_age_s`."""

    def __init__(self, chains: Mapping[str, Chain], availability: Availability, max_age_s: float = _MAX_AGE_S) -> None:
        self._chains = chains
        self._availability = availability
        self._max_age_s = max_age_s
        self._routes: RouteTable | None = None
        self._read_at = 0.0

    async def find(self, session: AsyncSession, provider: str, message_format: str) -> Route | None:
        """Return what the provider may claim of a format now, or None.

        The provider itself counts as available. While its circuit is not closed its worker sends one message as a test,
        and that is a message of an organisation that prefers the provider.
        """
        routes = await self._read(session)
        available = self._availability.available() | {provider}
        share = routes.share(message_format, provider, available)
        return Route(share, routes.sender_ids) if share is not None else None

    async def _read(self, session: AsyncSession) -> RouteTable:
        if self._routes is None or time.monotonic() - self._read_at > self._max_age_s:
            read_at = time.monotonic()
            self._routes = make_routes(self._chains, await configs.routings_all_tenants(session))
            self._read_at = read_at
        return self._routes
