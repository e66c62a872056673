"""Whose messages a provider sends: those that have it as the first available one of their chain."""

import pytest

from delivery.configs.rules import Routing
from delivery.providers.base import AccountError
from delivery.sending.routing import Availability, Share, make_routes

CHAINS = {"sms": ("a", "b", "c"), "mms": ("b",)}
ROUTINGS = [
    Routing("org_1", {"sms": ["b", "a"]}),
    Routing("org_2", {"sms": ["c"]}, "Shop"),
    Routing("org_3", {"sms": ["gone", "c", "a"]}),
    Routing("org_4", {"sms": ["gone"], "mms": []}),
]
ALL = frozenset("abc")


@pytest.mark.parametrize(
    ("provider", "available", "share"),
    [
        ("a", ALL, Share(["org_1", "org_2", "org_3"], others=True)),
        ("b", ALL, Share(["org_1"], others=False)),
        ("c", ALL, Share(["org_2", "org_3"], others=False)),
        ("b", ALL - {"a"}, Share(["org_2", "org_3"], others=True)),
        ("a", ALL - {"b"}, Share(["org_2", "org_3"], others=True)),
        ("a", frozenset("a"), Share(["org_2"], others=True)),
        ("c", frozenset("c"), Share(["org_1"], others=True)),
        ("b", frozenset("ab") - {"a"}, Share(["org_2", "org_3"], others=True)),
    ],
)
def test_a_provider_sends_for_organisations_that_have_it_first_among_the_available(
    provider: str, available: frozenset[str], share: Share
) -> None:
    assert make_routes(CHAINS, ROUTINGS).share("sms", provider, available) == share


def test_a_provider_that_is_first_in_no_chain_sends_nothing() -> None:
    assert make_routes(CHAINS, []).share("sms", "b", ALL) is None


def test_without_own_chains_the_first_provider_sends_for_all() -> None:
    assert make_routes(CHAINS, ROUTINGS).share("mms", "b", ALL) == Share([], others=True)


def test_organisations_have_their_sender_ids() -> None:
    assert make_routes(CHAINS, ROUTINGS).sender_ids == {"org_2": "Shop"}


def test_a_provider_has_an_alternative_while_another_of_its_format_is_available() -> None:
    availability = Availability()
    sms, mms, both = (
        availability.add(name, formats) for name, formats in (("a", ["sms"]), ("b", ["mms"]), ("c", ["sms", "mms"]))
    )
    assert availability.available() == {"a", "b", "c"}
    assert availability.has_alternative("a")
    both.finish(both.start(), AccountError("401"))
    assert availability.available() == {"a", "b"}
    assert not availability.has_alternative("a")
    assert availability.has_alternative("c")
    assert {sms.state, mms.state} == {"closed"}
