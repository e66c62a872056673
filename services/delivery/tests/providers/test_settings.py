"""What each provider needs before it starts, and at which addresses it reaches people."""

from typing import Any

import pytest

from delivery.providers import PROVIDERS, make_providers

GIVEN = {
    "messagemedia": {"messagemedia_api_key": "key", "messagemedia_api_secret": "secret"},
    "twilio": {"twilio_account_sid": "AC1", "twilio_auth_token": "token", "twilio_sender": "Cooee"},
    "aws": {},
    "mobile_message": {},
}


@pytest.mark.parametrize(
    ("provider", "setting"),
    [(provider, setting) for provider in GIVEN for setting in GIVEN[provider]]
    + [("mobile_message", f"mobile_message_{name}") for name in ("username", "password", "sender")],
)
def test_what_is_missing_is_named(make_settings: Any, provider: str, setting: str) -> None:
    with pytest.raises(ValueError, match=setting.upper()):
        make_providers(make_settings(**(GIVEN[provider] | {"sms_providers": f"log,{provider}", setting: ""})))


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
async def test_the_vendor_itself_is_known_by_its_host(
    make_settings: Any, provider: str, url: str, reaches_people: bool
) -> None:
    settings = make_settings(**GIVEN[provider], **{"sms_providers": provider, f"{provider}_base_url": url})
    made = make_providers(settings)[provider]
    assert made.reaches_people is reaches_people
    await made.close()


async def test_rates_and_concurrency_are_settings(make_settings: Any) -> None:
    names = [name for name in PROVIDERS if name != "log"]
    numbers = {f"{name}_{what}": value for name in names for what, value in (("rate", 7.5), ("concurrency", 3))}
    given = {key: value for each in GIVEN.values() for key, value in each.items()}
    for provider in make_providers(make_settings(**given, **numbers, sms_providers=",".join(names))).values():
        if provider.name != "log":
            assert (provider.rate, provider.concurrency) == (7.5, 3)
        await provider.close()


def test_who_answers_stop_is_a_setting_of_those_who_can(make_settings: Any) -> None:
    def answering(**changes: str) -> set[str]:
        made = make_providers(make_settings(sms_providers="mobile_message,aws,log", **changes))
        return {provider.name for provider in made.values() if provider.handles_opt_outs}

    assert answering() == {"mobile_message", "aws"}
    assert answering(stop_answered_by="aws,log") == {"aws"}
    assert answering(stop_answered_by="") == set()
