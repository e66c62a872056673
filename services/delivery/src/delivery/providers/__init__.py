"""The carriers that delivery can talk to, and in which order."""

import inspect
from importlib import import_module

from common.settings import InvalidSetting
from delivery.providers.base import Provider
from delivery.settings import Settings, split_names

# Name → its class, which is made with the settings alone. Only what is named is loaded: AWS's library is 13 MB.
PROVIDERS: dict[str, str] = {
    "log": "delivery.providers.log:LogProvider",
    "mobile_message": "delivery.providers.mobile_message:MobileMessage",
    "messagemedia": "delivery.providers.messagemedia:MessageMedia",
    "twilio": "delivery.providers.twilio:Twilio",
    "aws": "delivery.providers.aws:Aws",
}


def make_chains(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Format → the names of its providers, the preferred one first. Raises InvalidSetting for what does not fit."""
    return {
        message_format: tuple(dict.fromkeys(found.name for found in classes))
        for message_format, classes in _find_classes(settings).items()
    }


def make_providers(settings: Settings) -> dict[str, Provider]:
    """Name → provider, one for each that stands in a chain. Raises InvalidSetting for what does not fit."""
    found = {found.name: found for classes in _find_classes(settings).values() for found in classes}
    made = {name: provider(settings) for name, provider in found.items()}  # type: ignore[call-arg]
    answering = split_names(settings.stop_answered_by)
    for provider in made.values():
        provider.handles_opt_outs = provider.handles_opt_outs and provider.name in answering
    return made


def _find_classes(settings: Settings) -> dict[str, list[type[Provider]]]:
    """Format → the classes of its chain, each fit for it."""
    chains: dict[str, list[type[Provider]]] = {}
    by_name: dict[str, type[Provider]] = {}
    for message_format, entries in settings.chains.items():
        variable = f"{message_format.upper()}_PROVIDERS"
        if not entries:
            raise InvalidSetting(f"{variable}: name one at least")
        chains[message_format] = [_find_class(variable, entry) for entry in entries]
        for found in chains[message_format]:
            if message_format not in found.formats:
                raise InvalidSetting(f"{variable}: {found.name} takes no {message_format.upper()}")
            if by_name.setdefault(found.name, found) is not found:
                raise InvalidSetting(f"{variable}: two classes have the name {found.name!r}")
    return chains


def _find_class(variable: str, entry: str) -> type[Provider]:
    """The class of an entry: one of ours by its name, any other as `package.module:Class`."""
    module, colon, attribute = PROVIDERS.get(entry, entry).partition(":")
    if not colon:
        known = ", ".join(PROVIDERS)
        raise InvalidSetting(f"{variable}: there is no {entry!r}; there are {known}, and package.module:Class")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidSetting(f"{variable}: {entry!r} cannot be had: {error}") from None
    if not (isinstance(found, type) and issubclass(found, Provider)):
        raise InvalidSetting(f"{variable}: {entry!r} is no subclass of delivery.providers.base.Provider")
    if inspect.isabstract(found):
        raise InvalidSetting(f"{variable}: {entry!r} lacks {', '.join(sorted(found.__abstractmethods__))}")
    if not isinstance(getattr(found, "name", None), str):
        raise InvalidSetting(f"{variable}: {entry!r} has no name")
    return found
