"""The carriers that delivery can talk to."""

from collections.abc import Callable

from common.settings import UnusableSetting
from delivery.providers.base import Provider
from delivery.providers.log import LogProvider
from delivery.providers.mobile_message import MobileMessage
from delivery.settings import Settings

PROVIDERS: dict[str, Callable[[Settings], Provider]] = {
    LogProvider.name: LogProvider,
    MobileMessage.name: MobileMessage,
}


def make_providers(settings: Settings) -> dict[str, Provider]:
    """Format → its provider, one instance per name. Raises UnusableSetting for a name or format that does not fit."""
    made: dict[str, Provider] = {}
    for name in settings.providers.values():
        if name not in PROVIDERS:
            raise UnusableSetting(
                f"SMS_PROVIDERS, MMS_PROVIDERS: there is no {name!r}; there are {', '.join(PROVIDERS)}"
            )
        made.setdefault(name, PROVIDERS[name](settings))
    chosen = {message_format: made[name] for message_format, name in settings.providers.items()}
    if "mms" not in chosen["mms"].formats:
        raise UnusableSetting(f"MMS_PROVIDERS: {chosen['mms'].name} takes no MMS")
    return chosen
