"""Which providers an installation has, and in which order."""

from collections.abc import Callable, Sequence
from uuid import UUID

import pytest
from pydantic_settings import BaseSettings

from common.settings import InvalidSetting
from delivery.providers import make_chains, make_providers
from delivery.providers.base import Outcome, OutgoingMessage, Provider
from delivery.settings import Settings

HERE = __name__
MakeSettings = Callable[..., Settings]


class Outside(Provider):
    """A provider from outside the repository."""

    name = "outside"
    formats = frozenset({"sms", "mms"})

    def __init__(self, settings: Settings, own: BaseSettings | None = None) -> None:
        self.public_url = settings.public_url

    def prepare(self, messages: Sequence[OutgoingMessage]) -> bytes:
        return b""

    async def send(self, key: UUID, body: bytes, references: Sequence[int]) -> list[Outcome]:
        return [Outcome("accepted") for _ in references]


class Impostor(Outside):
    name = "log"


class Unfinished(Provider):
    name = "unfinished"


class Nameless(Outside):
    name = None  # type: ignore[assignment]


class SmsOnly(Outside):
    name = "sms_only"
    formats = frozenset({"sms"})


def test_chains_keep_the_order_of_the_settings_and_share_each_provider(make_settings: MakeSettings) -> None:
    settings = make_settings(sms_providers=f" {HERE}:SmsOnly, log,log ", mms_providers=f"log,{HERE}:Outside")
    assert make_chains(settings) == {"sms": ("sms_only", "log"), "mms": ("log", "outside")}
    assert list(make_providers(settings)) == ["sms_only", "log", "outside"]


def test_a_class_from_outside_gets_the_settings(make_settings: MakeSettings) -> None:
    settings = make_settings(sms_providers=f"{HERE}:Outside", public_url="https://cooee.test")
    provider = make_providers(settings)["outside"]
    assert isinstance(provider, Outside)
    assert provider.public_url == "https://cooee.test"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"sms_providers": "log,nonsuch"}, r"SMS_PROVIDERS: 'nonsuch' cannot be loaded \(unknown name\); use log, "),
        ({"mms_providers": f"log,{HERE}:SmsOnly"}, "MMS_PROVIDERS: sms_only does not send MMS"),
        ({"sms_providers": " , "}, "SMS_PROVIDERS: name at least one provider"),
        ({"sms_providers": "no.such.module:Class"}, "'no.such.module:Class' cannot be loaded"),
        ({"sms_providers": f"{HERE}:Missing"}, "cannot be loaded"),
        ({"sms_providers": ":"}, "cannot be loaded"),
        ({"sms_providers": f"{HERE}:HERE"}, "not a subclass of delivery.providers.base.Provider"),
        ({"sms_providers": f"{HERE}:Unfinished"}, "lacks prepare, send"),
        ({"sms_providers": f"{HERE}:Nameless"}, "has no name"),
        ({"sms_providers": f"{HERE}:Impostor"}, "two classes have the name 'log'"),
    ],
)
def test_an_invalid_entry_is_named(make_settings: MakeSettings, settings: dict[str, str], problem: str) -> None:
    with pytest.raises(InvalidSetting, match=problem):
        make_providers(make_settings(**settings))
