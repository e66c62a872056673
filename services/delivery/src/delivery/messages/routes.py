"""Which provider a message goes to: the first healthy one in its organisation's chain."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from delivery.limits import service as limits
from delivery.messages.rules import Order, Share
from delivery.messages.sender import Sender

_FRESH_S = 0.5  # what a config says counts within a second
Chain = Sequence[str]


@dataclass(frozen=True, slots=True)
class Routes:
    """The chains by format, those of organisations that have their own (format → organisation → chain), and the
    organisations' own senders. Pure."""

    chains: Mapping[str, Chain]
    own: Mapping[str, Mapping[str, Chain]]
    senders: Mapping[str, str]
    _shares: dict[Any, Share | None] = field(default_factory=dict)

    def share(self, message_format: str, provider: str, healthy: frozenset[str]) -> Share | None:
        """Whose messages of a format this provider takes while these are healthy; None: nobody's."""
        asked = (message_format, provider, healthy)
        if asked not in self._shares:
            self._shares[asked] = self._find_share(*asked)
        return self._shares[asked]

    def _find_share(self, message_format: str, provider: str, healthy: frozenset[str]) -> Share | None:
        own = self.own.get(message_format, {})
        mine = [organisation for organisation, chain in own.items() if _first(chain, healthy) == provider]
        if _first(self.chains[message_format], healthy) == provider:
            return Share(sorted(own.keys() - set(mine)), others=True)
        return Share(sorted(mine), others=False) if mine else None


def _first(chain: Chain, healthy: frozenset[str]) -> str | None:
    return next((name for name in chain if name in healthy), None)


def make_routes(chains: Mapping[str, Chain], configs: Iterable[limits.Routing]) -> Routes:
    """The routes from the installation's chains and what organisations chose. A provider that is not in the
    installation's lists any more is passed by; a chain with none left is the installation's."""
    own: dict[str, dict[str, Chain]] = {name: {} for name in chains}
    senders: dict[str, str] = {}
    for config in configs:
        for message_format, names in config.chains.items():
            known = [name for name in names if name in chains[message_format]]
            if known:
                own[message_format][config.organisation_id] = known
        if config.sender is not None:
            senders[config.organisation_id] = config.sender
    return Routes(chains, own, senders)


class Router:
    """The routes as they are now, between the senders of one process."""

    def __init__(self, chains: Mapping[str, Chain], senders: Sequence[Sender]) -> None:
        self.senders = senders
        for sender in senders:
            sender.has_other = partial(self._has_other, sender)
        self._chains = chains
        self._routes: Routes | None = None
        self._read_at = 0.0

    async def read(self, session: AsyncSession) -> Routes:
        """The routes, at most half a second old."""
        if self._routes is None or time.monotonic() - self._read_at > _FRESH_S:
            read_at = time.monotonic()
            self._routes = make_routes(self._chains, await limits.routings(session))
            self._read_at = read_at
        return self._routes

    def _has_other(self, sender: Sender) -> bool:
        return any(
            other.breaker.state == "closed" and not set(other.formats).isdisjoint(sender.formats)
            for other in self.senders
            if other is not sender
        )

    def order(self, routes: Routes, sender: Sender, message_format: str) -> Order | None:
        """What a sender claims of a format for its free requests; None: nothing is for it now.

        Its own provider counts as healthy: as long as it is not, the one call that it may make is the canary, and
        that is for those who prefer it.
        """
        healthy = {other.provider.name for other in self.senders if other.breaker.state == "closed"}
        share = routes.share(message_format, sender.provider.name, frozenset(healthy | {sender.provider.name}))
        calls = sender.free_slots()
        if share is None or not calls:
            return None
        turns = sender.turns[message_format]
        return Order(message_format, share, calls, sender.most_messages(calls), turns, routes.senders)
