"""What configs take, and what their values mean."""

import pytest

from delivery.configs.rules import SMS_LIMIT, SPECS, STOP_REPLY, STOP_WORDS_OFF, check_value

CHAINS = {"sms": ("mobile_message", "log"), "mms": ("log",)}


@pytest.mark.parametrize(("value", "limit"), [("unlimited", None), ("0", 0), ("007", 7), ("5000", 5000)])
def test_a_limit_is_parsed_from_its_config(value: str, limit: int | None) -> None:
    assert SMS_LIMIT.parse(value) == limit


@pytest.mark.parametrize(
    ("name", "value", "is_good"),
    [
        ("sms_limit", "0", True),
        ("sms_limit", "unlimited", True),
        ("sms_limit", "-1", False),
        ("sms_limit", "1.5", False),
        ("sms_limit", "", False),
        ("sms_limit", "٣", False),
        ("mms_limit", "9" * 16, False),
        ("mms_limit", "Unlimited!", False),
        ("timezone", "Australia/Perth", True),
        ("timezone", "UTC", True),
        ("timezone", "America/Argentina/Buenos_Aires", True),
        ("timezone", "Mars/Base", False),
        *(("timezone", name, False) for name in ("localtime", "Factory", "posixrules", "Etc/UTC", "Etc/GMT+9", "EST")),
        ("timezone", "australia/adelaide", False),
        ("timezone", "Australia", False),
        ("timezone", "Australia/../Australia/Perth", False),
        ("timezone", "posix/Australia/Perth", False),
        ("timezone", "/usr/share/zoneinfo/UTC", False),
        ("timezone", "../etc/passwd", False),
        ("timezone", "", False),
        ("greeting", "", True),
        ("sms_providers", "log, mobile_message", True),
        ("sms_providers", "", True),
        ("sms_providers", "log,nonsuch", False),
        ("mms_providers", "mobile_message", False),
        ("sender", "", True),
        ("sender", "Cooee", True),
        ("sender", "0412 345 678", True),
        ("sender", "+61 412 345 678", True),
        ("sender", "1800CALLUS1", True),
        ("sender", "My Shop", False),
        ("sender", "Us", False),
        ("sender", "TwelveLetter", False),
        ("sender", "12345", False),
        ("sender", "Café", False),
    ],
)
def test_known_names_take_only_valid_values(name: str, value: str, is_good: bool) -> None:
    assert (check_value(name, value, CHAINS) is None) is is_good


@pytest.mark.parametrize(
    ("name", "value", "is_good"),
    [
        ("stop_words_off", "", True),
        ("stop_words_off", "cancel, END", True),
        ("stop_words_off", "STOP", False),
        ("stop_words_off", "CANCEL;END", False),
        ("stop_reply", "off", True),
        ("help_reply", "Call 08 8123 4567. Reply STOP to opt out.", True),
        ("start_reply", "", False),
        ("start_reply", "x" * 700, False),
    ],
)
def test_configs_of_auto_replies_take_only_valid_values(name: str, value: str, is_good: bool) -> None:
    assert (check_value(name, value, CHAINS) is None) == is_good


def test_the_error_of_a_chain_names_the_enabled_providers() -> None:
    assert check_value("sms_providers", "twilio", CHAINS) == (
        "Enter names of providers, separated by commas. Enabled are: mobile_message, log."
    )


def test_values_have_the_meaning_of_their_config() -> None:
    assert STOP_WORDS_OFF.parse("CANCEL, End") == {"cancel", "end"}
    assert (STOP_REPLY.parse(" Off "), STOP_REPLY.parse("Bye.")) == (None, "Bye.")


def test_every_known_config_has_a_meaning() -> None:
    assert all(name == spec.name and spec.meaning for name, spec in SPECS.items())
