"""The places where media can lie."""

from importlib import import_module

from common.settings import InvalidSetting
from delivery.settings import Settings
from delivery.storage.base import Storage

# By address, so that a process imports the vendor's client that it uses and no other.
STORAGES = {
    "local": "delivery.storage.local:LocalStorage",
    "azure": "delivery.storage.azure:AzureStorage",
    "s3": "delivery.storage.s3:S3Storage",
    "gcs": "delivery.storage.gcs:GcsStorage",
}


def make_storage(settings: Settings) -> Storage:
    """The storage that the settings name, by a name of the table or as `package.module:Class`.

    Raises InvalidSetting.
    """
    name = settings.storage_provider
    module, _, attribute = STORAGES.get(name, name).partition(":")
    if not attribute:
        raise InvalidSetting(f"STORAGE_PROVIDER: there is no {name!r}; there are {', '.join(STORAGES)}")
    try:
        made = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidSetting(f"STORAGE_PROVIDER: {name!r} cannot be imported: {error}") from None
    if not (isinstance(made, type) and issubclass(made, Storage)):
        raise InvalidSetting(f"STORAGE_PROVIDER: {name!r} is no delivery.storage.base.Storage")
    return made(settings)  # type: ignore[call-arg]
