"""The other services, as the API and the worker of scheduling call them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.caller import Caller
from common.clients import ServiceClient
from common.combining import Combiner
from common.statements import Tenant
from scheduling.clients.contacts import Contacts
from scheduling.clients.delivery import Delivery
from scheduling.settings import Settings


@dataclass(frozen=True, slots=True)
class OtherServices:
    """Contacts and delivery, with the connections of one process."""

    contacts: Contacts
    delivery: Delivery

    @classmethod
    def connect(cls, settings: Settings) -> "OtherServices":
        """Return the clients. A connection is opened at the first call."""
        secret = settings.internal_token_secret.get_secret_value()

        def client(url: str, audience: str) -> ServiceClient:
            return ServiceClient(url, issuer=settings.service, audience=audience, secret=secret)

        return cls(
            Contacts(client(settings.contacts_url, "contacts")), Delivery(client(settings.delivery_url, "delivery"))
        )

    async def close(self) -> None:
        """Close the connections."""
        await self.contacts.client.close()
        await self.delivery.client.close()


@dataclass(frozen=True, slots=True)
class WriteContext:
    """The inputs of a use case that writes messages, besides its session and its request body.

    The combiners write what requests of one organisation bring at the same time: schedules for later, with their values
    by column, and sends.
    """

    caller: Caller
    services: OtherServices
    new_schedules: Combiner[tuple[Tenant, Mapping[str, Any]], Mapping[str, Any]]
    new_sends: Combiner[Any, int]
    max_parts: int
    sweep_after_s: float
