"""The places where media can lie."""

from collections.abc import Callable

from common.settings import UnusableSetting
from delivery.settings import Settings
from delivery.storage.azure import AzureStorage
from delivery.storage.base import Storage
from delivery.storage.local import LocalStorage

STORAGES: dict[str, Callable[[Settings], Storage]] = {
    LocalStorage.name: LocalStorage,
    AzureStorage.name: AzureStorage,
}


def make_storage(settings: Settings) -> Storage:
    """The storage that the settings name. Raises UnusableSetting for a name that does not exist."""
    name = settings.storage_provider
    if name not in STORAGES:
        raise UnusableSetting(f"STORAGE_PROVIDER: there is no {name!r}; there are {', '.join(STORAGES)}")
    return STORAGES[name](settings)
