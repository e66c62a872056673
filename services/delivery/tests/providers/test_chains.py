"""Which providers an installation has, and in which order."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from delivery.providers import make_chains, make_providers
from delivery.providers.base import Outcome, OutgoingMessage, Provider
from delivery.settings import Settings

HERE = __name__


class Outside(Provider):
    """A provider that is not in the tree."""

    name = "outside"
    formats = frozenset({"sms", "mms"})

    def __init__(self, settings: Settings) -> None:
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


def test_chains_are_in_the_order_of_the_settings_and_each_provider_is_made_once(make_settings: Any) -> None:
    settings = make_settings(sms_providers=" mobile_message, log,log ", mms_providers=f"log,{HERE}:Outside")
    assert make_chains(settings) == {"sms": ("mobile_message", "log"), "mms": ("log", "outside")}
    assert list(make_providers(settings)) == ["mobile_message", "log", "outside"]


def test_a_class_outside_of_the_tree_is_made_with_the_settings(make_settings: Any) -> None:
    made = make_providers(make_settings(sms_providers=f"{HERE}:Outside", public_url="https://cooee.test"))["outside"]
    assert isinstance(made, Outside)
    assert made.public_url == "https://cooee.test"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"sms_providers": "log,pigeon"}, "SMS_PROVIDERS: there is no 'pigeon'; there are log, "),
        ({"mms_providers": "log,mobile_message"}, "MMS_PROVIDERS: mobile_message takes no MMS"),
        ({"sms_providers": " , "}, "SMS_PROVIDERS: name one at least"),
        ({"sms_providers": "no.such.module:Class"}, "'no.such.module:Class' cannot be had"),
        ({"sms_providers": f"{HERE}:Missing"}, "cannot be had"),
        ({"sms_providers": ":"}, "cannot be had"),
        ({"sms_providers": f"{HERE}:HERE"}, "no subclass of delivery.providers.base.Provider"),
        ({"sms_providers": f"{HERE}:Unfinished"}, "lacks prepare, send"),
        ({"sms_providers": f"{HERE}:Nameless"}, "has no name"),
        ({"sms_providers": f"{HERE}:Impostor"}, "two classes have the name 'log'"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named(make_settings: Any, settings: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        make_providers(make_settings(**settings))
