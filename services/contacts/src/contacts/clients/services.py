"""The services that must know an opt-out or a deletion before it is answered."""

from dataclasses import dataclass

import structlog

from common.caller import Caller
from common.clients import Refused, ServiceClient
from common.errors import Unavailable
from common.events import ContactState
from contacts.settings import Settings

log = structlog.get_logger()

# A person waits for the answer, and would rather wait than send the request again.
_CONFIRMATION_S = 5.0
_NOT_CONFIRMED = "The change is saved, but {service} has not confirmed it yet. Send the same request again."


@dataclass(frozen=True, slots=True)
class OtherServices:
    """Delivery and scheduling, with the connections of one process."""

    delivery: ServiceClient
    scheduling: ServiceClient

    @classmethod
    def connect(cls, settings: Settings) -> "OtherServices":
        """Return the clients. A connection is opened at the first call."""
        secret = settings.internal_token_secret.get_secret_value()

        def client(url: str, audience: str) -> ServiceClient:
            return ServiceClient(
                url, issuer=settings.service, audience=audience, secret=secret, timeout_s=_CONFIRMATION_S
            )

        return cls(client(settings.delivery_url, "delivery"), client(settings.scheduling_url, "scheduling"))

    async def save_opt_out(self, caller: Caller, contact: ContactState) -> None:
        """Save the opt-out of a contact at delivery, which checks it before each submission. Raises Unavailable."""
        await self._save(self.delivery, "delivery", caller, contact)

    async def save_deletion(self, caller: Caller, contact: ContactState) -> None:
        """Save the deletion of a contact at scheduling, which cancels its pending schedules. Raises Unavailable."""
        await self._save(self.scheduling, "scheduling", caller, contact)

    async def _save(self, client: ServiceClient, service: str, caller: Caller, contact: ContactState) -> None:
        try:
            await client.call(caller, "PUT", "/internal/contacts/", json=contact.model_dump(mode="json"))
        except (Unavailable, Refused) as error:
            log.warning("change not confirmed", service=service, error=str(error))
            raise Unavailable(_NOT_CONFIRMED.format(service=service)) from None

    async def close(self) -> None:
        """Close the connections."""
        await self.delivery.close()
        await self.scheduling.close()
