"""The other services, as the API and the worker of scheduling call them."""

from dataclasses import dataclass

from common.caller import Caller
from common.clients import ServiceClient
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
    """The inputs of a use case that writes messages, besides its session and its request body."""

    caller: Caller
    services: OtherServices
    max_parts: int
    sweep_after_s: float
