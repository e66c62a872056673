"""The providers that delivery can use, and the order in which it uses them."""

import inspect
from importlib import import_module

from pydantic_settings import BaseSettings

from common.settings import InvalidSetting
from delivery.providers.base import Provider
from delivery.settings import Settings, split_names

# Name → module:class. Only the providers that the settings name are imported: AWS's library has 13 MB.
PROVIDERS: dict[str, str] = {
    "log": "delivery.providers.log:LogProvider",
    "mobile_message": "delivery.providers.mobile_message:MobileMessage",
    "messagemedia": "delivery.providers.messagemedia:MessageMedia",
    "twilio": "delivery.providers.twilio:Twilio",
    "aws": "delivery.providers.aws:Aws",
}


def provider_classes() -> list[type[Provider]]:
    """Return the classes of all providers above. It imports every provider, so no service calls it."""
    return [_load(entry) for entry in PROVIDERS.values()]


def settings_classes() -> list[type[BaseSettings]]:
    """Return the settings classes of all providers above, as `provider_classes` does."""
    return [provider.settings_class for provider in provider_classes()]


def make_chains(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Return format → the names of its providers, the preferred one first. Raises InvalidSetting."""
    return {
        message_format: tuple(dict.fromkeys(provider.name for provider in chain))
        for message_format, chain in _find_classes(settings).items()
    }


def make_providers(settings: Settings) -> dict[str, Provider]:
    """Return name → provider for every provider of a chain. Raises InvalidSetting.

    Each provider reads its own settings from the environment.
    """
    classes = {provider.name: provider for chain in _find_classes(settings).values() for provider in chain}
    providers = {name: provider(settings) for name, provider in classes.items()}
    if settings.stop_answered_by is not None:
        allowed = split_names(settings.stop_answered_by)
        for name, provider in providers.items():
            provider.handles_opt_outs = provider.handles_opt_outs and name in allowed
    return providers


def _find_classes(settings: Settings) -> dict[str, list[type[Provider]]]:
    """Return format → the classes of its chain. Raises InvalidSetting for a class that cannot be used there."""
    chains: dict[str, list[type[Provider]]] = {}
    by_name: dict[str, type[Provider]] = {}
    for message_format, entries in settings.chains.items():
        variable = f"{message_format.upper()}_PROVIDERS"
        if not entries:
            raise InvalidSetting(f"{variable}: name at least one provider")
        chains[message_format] = [_find_class(variable, entry) for entry in entries]
        for provider in chains[message_format]:
            if message_format not in provider.formats:
                raise InvalidSetting(f"{variable}: {provider.name} does not send {message_format.upper()}")
            if by_name.setdefault(provider.name, provider) is not provider:
                raise InvalidSetting(f"{variable}: two classes have the name {provider.name!r}")
    return chains


def _find_class(variable: str, entry: str) -> type[Provider]:
    """Return the class that an entry of a chain names. Raises InvalidSetting."""
    try:
        provider = _load(PROVIDERS.get(entry, entry))
    except (ImportError, AttributeError, ValueError) as error:
        known = ", ".join(PROVIDERS)
        raise InvalidSetting(
            f"{variable}: {entry!r} cannot be loaded ({error}); use {known}, or package.module:Class"
        ) from None
    if not (isinstance(provider, type) and issubclass(provider, Provider)):
        raise InvalidSetting(f"{variable}: {entry!r} is not a subclass of delivery.providers.base.Provider")
    if inspect.isabstract(provider):
        raise InvalidSetting(f"{variable}: {entry!r} lacks {', '.join(sorted(provider.__abstractmethods__))}")
    if not isinstance(getattr(provider, "name", None), str):
        raise InvalidSetting(f"{variable}: {entry!r} has no name")
    return provider


def _load(address: str) -> type[Provider]:
    """Import `package.module:Class`. Raises ImportError, AttributeError, or ValueError when it is no such address."""
    module, colon, attribute = address.partition(":")
    if not colon:
        raise ValueError("unknown name")
    found: type[Provider] = getattr(import_module(module), attribute)
    return found
