"""The storages that can hold media."""

from importlib import import_module

from pydantic_settings import BaseSettings

from common.settings import InvalidSetting
from delivery.settings import Settings
from delivery.storage.base import Storage

# Name → module:class. A process imports only the client library of the storage that it uses.
STORAGES: dict[str, str] = {
    "local": "delivery.storage.local:LocalStorage",
    "azure": "delivery.storage.azure:AzureStorage",
    "s3": "delivery.storage.s3:S3Storage",
    "gcs": "delivery.storage.gcs:GcsStorage",
}


def settings_classes() -> list[type[BaseSettings]]:
    """Return the settings classes of all storages above. It imports every storage, so no service calls it."""
    return [_load(entry).settings_class for entry in STORAGES.values()]


def make_storage(settings: Settings) -> Storage:
    """Return the storage that STORAGE_PROVIDER names, by a name above or as `package.module:Class`.

    It reads its own settings from the environment. Raises InvalidSetting.
    """
    name = settings.storage_provider
    try:
        storage = _load(STORAGES.get(name, name))
    except (ImportError, AttributeError, ValueError) as error:
        known = ", ".join(STORAGES)
        raise InvalidSetting(
            f"STORAGE_PROVIDER: {name!r} cannot be loaded ({error}); use {known}, or package.module:Class"
        ) from None
    if not (isinstance(storage, type) and issubclass(storage, Storage)):
        raise InvalidSetting(f"STORAGE_PROVIDER: {name!r} is not a subclass of delivery.storage.base.Storage")
    return storage(settings)


def _load(address: str) -> type[Storage]:
    """Import `package.module:Class`. Raises ImportError, AttributeError, or ValueError when it is no such address."""
    module, colon, attribute = address.partition(":")
    if not colon:
        raise ValueError("unknown name")
    found: type[Storage] = getattr(import_module(module), attribute)
    return found
