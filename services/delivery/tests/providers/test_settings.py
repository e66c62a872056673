"""The settings of each provider: what it requires, the names of its variables, and what they change."""

from collections.abc import Callable, Mapping

import pytest

from common.settings import InvalidSetting, env_name
from delivery.providers import make_providers, provider_classes
from delivery.providers.base import Provider
from delivery.settings import OwnSettings, Settings
from docs.examples.pigeon import Pigeon

GIVEN: dict[str, dict[str, str]] = {
    "mobile_message": {"USERNAME": "user", "PASSWORD": "password", "SENDER_ID": "Cooee"},
    "messagemedia": {"API_KEY": "key", "API_SECRET": "secret"},
    "twilio": {"ACCOUNT_SID": "AC1", "AUTH_TOKEN": "token", "SENDER_ID": "Cooee"},
    "aws": {},
}
# The providers of v2. A later provider has no old names.
WITH_OLD_NAMES = ("mobile_message", "messagemedia", "twilio", "aws")
MakeSettings = Callable[..., Settings]
SetOwn = Callable[..., None]


@pytest.fixture
def set_own(monkeypatch: pytest.MonkeyPatch) -> SetOwn:
    """`set_own("twilio", RATE="7")` sets the variables that a provider requires, and these."""

    def set_variables(provider: str, **changes: str) -> None:
        values: Mapping[str, str] = {**GIVEN, "pigeon": {"TOKEN": "bread"}}[provider] | changes
        for name, value in values.items():
            monkeypatch.setenv(f"{provider.upper()}_{name}", value)

    return set_variables


@pytest.mark.parametrize(("provider", "name"), [(provider, name) for provider in GIVEN for name in GIVEN[provider]])
def test_a_missing_variable_is_named(make_settings: MakeSettings, set_own: SetOwn, provider: str, name: str) -> None:
    set_own(provider, **{name: ""})
    with pytest.raises(InvalidSetting, match=f"{provider.upper()}_{name}"):
        make_providers(make_settings(sms_providers=f"log,{provider}"))


def test_an_invalid_value_is_an_error_with_its_variable_and_without_the_value(
    make_settings: MakeSettings, set_own: SetOwn
) -> None:
    set_own("twilio", CONCURRENCY="plenty")
    with pytest.raises(InvalidSetting, match="TWILIO_CONCURRENCY") as raised:
        make_providers(make_settings(sms_providers="twilio"))
    assert "plenty" not in str(raised.value)


async def test_the_old_name_of_a_sender_id_is_accepted(
    make_settings: MakeSettings, set_own: SetOwn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for provider in WITH_OLD_NAMES:
        set_own(provider)
        monkeypatch.delenv(f"{provider.upper()}_SENDER_ID", raising=False)
        monkeypatch.setenv(f"{provider.upper()}_SENDER", "+61491570006")
    chain = ",".join(WITH_OLD_NAMES)
    for provider in make_providers(make_settings(sms_providers=chain, mms_providers="twilio")).values():
        assert provider.default_sender_id == "+61491570006"
        await provider.close()


@pytest.mark.parametrize("name", [*GIVEN, "pigeon"])
async def test_the_settings_of_every_provider_are_used(make_settings: MakeSettings, set_own: SetOwn, name: str) -> None:
    """The example of the docs has them, too, because its copies must."""
    set_own(name, RATE="7.5", CONCURRENCY="3", SENDER_ID="Torrens", BASE_URL="http://127.0.0.1:9")
    entry = "docs.examples.pigeon:Pigeon" if name == "pigeon" else name
    provider = make_providers(make_settings(sms_providers=entry))[name]
    assert (provider.rate, provider.concurrency) == (7.5, 3)
    assert (provider.default_sender_id, provider.reaches_people) == ("Torrens", False)
    await provider.close()


@pytest.mark.parametrize("provider", [*provider_classes(), Pigeon], ids=lambda provider: provider.name)
def test_every_variable_begins_with_the_name_of_its_provider(provider: type[Provider]) -> None:
    settings_class = provider.settings_class
    assert issubclass(settings_class, OwnSettings)
    variables = [env_name(settings_class, field) for field in settings_class.model_fields]
    assert all(variable.startswith(f"{provider.name.upper()}_") for variable in variables)
    for name in ("SENDER_ID", "CONCURRENCY", "RATE", "BASE_URL") if provider.name != "log" else ():
        assert f"{provider.name.upper()}_{name}" in variables


@pytest.mark.parametrize(
    ("provider", "url", "reaches_people"),
    [
        ("mobile_message", "https://api.mobilemessage.com.au", True),
        ("mobile_message", "https://api.mobilemessage.com.au.example.com", False),
        ("messagemedia", "https://api.messagemedia.com", True),
        ("messagemedia", "https://au.app.api.sinch.com", True),
        ("messagemedia", "http://127.0.0.1:8090/messagemedia", False),
        ("twilio", "https://api.twilio.com", True),
        ("twilio", "https://api.sydney.au1.twilio.com", True),
        ("twilio", "https://mytwilio.com", False),
    ],
)
async def test_only_the_providers_own_hosts_reach_people(
    make_settings: MakeSettings, set_own: SetOwn, provider: str, url: str, reaches_people: bool
) -> None:
    set_own(provider, BASE_URL=url)
    made = make_providers(make_settings(sms_providers=provider))[provider]
    assert made.reaches_people is reaches_people
    await made.close()


async def test_a_setting_names_the_providers_that_handle_opt_outs(make_settings: MakeSettings, set_own: SetOwn) -> None:
    set_own("mobile_message")
    set_own("aws")

    async def handling(**changes: str) -> set[str]:
        providers = make_providers(make_settings(sms_providers="mobile_message,aws,log", **changes))
        for provider in providers.values():
            await provider.close()
        return {provider.name for provider in providers.values() if provider.handles_opt_outs}

    assert await handling() == {"mobile_message", "aws"}
    assert await handling(stop_answered_by="aws,log") == {"aws"}
    assert await handling(stop_answered_by=",") == set()
