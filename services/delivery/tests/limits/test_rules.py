"""Places are granted in order, from the hold first."""

from datetime import UTC, date, datetime
from uuid import UUID

import pytest

from delivery.limits.rules import (
    Demand,
    Quota,
    canonical_sender,
    check_value,
    grant,
    period_of,
    read_limit,
    read_sender,
)

QUOTA = Quota("org_1", date(2026, 4, 1), "sms")
HOLD = UUID(int=1)
CHAINS = {"sms": ("mobile_message", "log"), "mms": ("log",)}
SMS_LIMIT = {("org_1", "sms"): 10}


def test_what_does_not_fit_is_passed_by_and_strands_nothing() -> None:
    demands = [Demand(QUOTA, units) for units in (4, 7, 5, 2, 1)]
    grants = grant(demands, {QUOTA: 0}, SMS_LIMIT, {})
    assert grants.granted == [True, False, True, False, True]
    assert grants.taken == {QUOTA: 10}


def test_without_a_limit_everything_is_granted_and_counted() -> None:
    grants = grant([Demand(QUOTA, 500)], {QUOTA: 9000}, {}, {})
    assert grants.granted == [True]
    assert grants.taken == {QUOTA: 500}


def test_a_hold_is_drawn_before_the_limit() -> None:
    demands = [Demand(QUOTA, units, HOLD) for units in (2, 3, 1)]
    grants = grant(demands, {QUOTA: 9}, SMS_LIMIT, {HOLD: (QUOTA, 4)})
    assert grants.granted == [True, True, False]
    assert (grants.drawn, grants.taken) == ({HOLD: 4}, {QUOTA: 1})


def test_a_hold_of_another_month_is_no_help() -> None:
    other = Quota("org_1", date(2026, 3, 1), "sms")
    grants = grant([Demand(QUOTA, 1, HOLD)], {QUOTA: 10}, SMS_LIMIT, {HOLD: (other, 4)})
    assert grants.granted == [False]
    assert not grants.drawn


def test_a_full_limit_still_lets_through_what_was_held() -> None:
    grants = grant([Demand(QUOTA, 2, HOLD)], {QUOTA: 50}, SMS_LIMIT, {HOLD: (QUOTA, 2)})
    assert grants.granted == [True]


@pytest.mark.parametrize(
    ("moment", "zone", "period"),
    [
        (datetime(2026, 3, 31, 13, 29, tzinfo=UTC), "Australia/Adelaide", date(2026, 3, 1)),
        (datetime(2026, 3, 31, 13, 30, tzinfo=UTC), "Australia/Adelaide", date(2026, 4, 1)),
        (datetime(2026, 10, 31, 13, 30, tzinfo=UTC), "Australia/Adelaide", date(2026, 11, 1)),
        (datetime(2026, 12, 31, 23, 59, tzinfo=UTC), "Pacific/Kiritimati", date(2027, 1, 1)),
    ],
)
def test_a_month_turns_in_the_zone(moment: datetime, zone: str, period: date) -> None:
    assert period_of(moment, zone) == period


@pytest.mark.parametrize(("value", "limit"), [(None, None), ("unlimited", None), ("0", 0), ("007", 7), ("5000", 5000)])
def test_a_limit_is_read_from_its_config(value: str | None, limit: int | None) -> None:
    assert read_limit(value) == limit


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
        ("timezone", "Mars/Base", False),
        ("timezone", "../etc/passwd", False),
        ("timezone", "", False),
        ("greeting", "", True),
        ("sms_providers", "log, mobile_message", True),
        ("sms_providers", "", True),
        ("sms_providers", "log,pigeon", False),
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
def test_known_names_take_only_what_makes_sense(name: str, value: str, is_good: bool) -> None:
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
def test_what_opt_out_configs_can_take(name: str, value: str, is_good: bool) -> None:
    assert (check_value(name, value, CHAINS) is None) == is_good


@pytest.mark.parametrize("number", ["0412 345 678", "+61412345678", "61 412 345 678", "0412345678"])
def test_a_number_and_a_name_are_one_sender_however_they_are_spelt(number: str) -> None:
    assert canonical_sender(number) == "+61412345678"
    assert canonical_sender("Cooee") == canonical_sender("COOEE") == "cooee"
    assert canonical_sender("My Shop") is canonical_sender("") is None


def test_a_chain_that_is_refused_names_what_is_enabled() -> None:
    assert check_value("sms_providers", "twilio", CHAINS) == (
        "Enter names of providers, separated by commas. Enabled are: mobile_message, log."
    )


def test_a_sender_is_used_as_carriers_write_it() -> None:
    assert read_sender("0412 345 678") == "+61412345678"
    assert read_sender("Cooee") == "Cooee"
    assert read_sender("08 8123 4567") is None
