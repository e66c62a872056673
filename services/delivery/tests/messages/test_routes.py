"""Whose messages a provider takes: the first healthy one of a chain."""

import pytest

from delivery.limits.service import Routing
from delivery.messages.routes import make_routes
from delivery.messages.rules import Share

CHAINS = {"sms": ("a", "b", "c"), "mms": ("b",)}
CONFIGS = [
    Routing("org_1", {"sms": ["b", "a"]}),
    Routing("org_2", {"sms": ["c"]}, "Shop"),
    Routing("org_3", {"sms": ["gone", "c", "a"]}),
    Routing("org_4", {"sms": ["gone"], "mms": []}),
]
ALL = frozenset("abc")


@pytest.mark.parametrize(
    ("provider", "healthy", "share"),
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
def test_a_provider_takes_what_has_it_first_among_the_healthy(
    provider: str, healthy: frozenset[str], share: Share
) -> None:
    assert make_routes(CHAINS, CONFIGS).share("sms", provider, healthy) == share


def test_a_provider_that_nobody_has_first_takes_nothing() -> None:
    assert make_routes(CHAINS, []).share("sms", "b", ALL) is None


def test_without_overrides_everybody_is_the_first_providers() -> None:
    assert make_routes(CHAINS, CONFIGS).share("mms", "b", ALL) == Share([], others=True)


def test_organisations_have_their_senders() -> None:
    assert make_routes(CHAINS, CONFIGS).senders == {"org_2": "Shop"}
