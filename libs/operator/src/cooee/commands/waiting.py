"""Find the pause because of which messages wait. They are not stuck."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.settings import InvalidSetting
from cooee.commands.pauses import show_cause
from cooee.errors import WrongSettings
from cooee.stack import Stack
from delivery.configs.service import routings_all_tenants
from delivery.models import PauseKind, PauseRow
from delivery.pauses.service import list_pauses
from delivery.providers import make_chains
from delivery.sending.routing import Share, make_routes


@dataclass(frozen=True)
class Pauses:
    """The pauses, and whose messages of a format go to a paused provider while all circuits are closed."""

    organisations: Mapping[str, PauseRow] = field(default_factory=dict)
    providers: Mapping[str, PauseRow] = field(default_factory=dict)
    shares: Mapping[tuple[str, str], Share] = field(default_factory=dict)

    def find(self, organisation: str, message_format: str | None) -> PauseRow | None:
        """Return the pause because of which messages wait, or None."""
        if organisation in self.organisations:
            return self.organisations[organisation]
        for (provider, of_format), share in self.shares.items():
            if of_format == message_format and (organisation in share.organisations) != share.others:
                return self.providers[provider]
        return None


async def read_pauses(stack: Stack) -> Pauses:
    """Return the pauses. Raises WrongSettings when a provider is paused and the provider chains are invalid."""
    async with stack.session("delivery") as session:
        rows = await list_pauses(session)
        organisations = {row.name: row for row in rows if row.kind == PauseKind.ORGANISATION}
        providers = {row.name: row for row in rows if row.kind == PauseKind.PROVIDER}
        if not providers:
            return Pauses(organisations)
        try:
            chains = make_chains(stack.delivery_settings())
        except InvalidSetting as error:
            raise WrongSettings(f"delivery's settings: {error}") from None
        routes = make_routes(chains, await routings_all_tenants(session))
    available = frozenset(name for chain in chains.values() for name in chain)
    shares = {(name, kind): routes.share(kind, name, available) for name in providers for kind in chains}
    return Pauses(organisations, providers, {key: share for key, share in shares.items() if share is not None})


def show_pause(row: PauseRow) -> str:
    """Return what is paused, by whom and why."""
    return f"{row.kind} {row.name} is paused {show_cause(row)}"
