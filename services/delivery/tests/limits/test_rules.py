"""Parts are granted in order, from the reservation first."""

from datetime import UTC, date, datetime
from uuid import UUID

import pytest

from delivery.limits.rules import Demand, Quota, Reserved, grant, period_of

QUOTA = Quota("org_1", date(2026, 4, 1), "sms")
RESERVATION = UUID(int=1)
SMS_LIMIT = {("org_1", "sms"): 10}


def test_a_demand_that_does_not_fit_does_not_block_smaller_ones() -> None:
    demands = [Demand(QUOTA, parts) for parts in (4, 7, 5, 2, 1)]
    grants = grant(demands, {QUOTA: 0}, SMS_LIMIT, {})
    assert grants.granted == [True, False, True, False, True]
    assert grants.added == {QUOTA: 10}


def test_without_a_limit_everything_is_granted_and_counted() -> None:
    grants = grant([Demand(QUOTA, 500)], {QUOTA: 9000}, {}, {})
    assert grants.granted == [True]
    assert grants.added == {QUOTA: 500}


def test_a_reservation_is_used_before_the_limit() -> None:
    demands = [Demand(QUOTA, parts, RESERVATION) for parts in (2, 3, 1)]
    grants = grant(demands, {QUOTA: 9}, SMS_LIMIT, {RESERVATION: Reserved(QUOTA, 4)})
    assert grants.granted == [True, True, False]
    assert (grants.drawn, grants.added) == ({RESERVATION: 4}, {QUOTA: 1})


def test_a_reservation_of_another_month_is_not_used() -> None:
    other = Quota("org_1", date(2026, 3, 1), "sms")
    grants = grant([Demand(QUOTA, 1, RESERVATION)], {QUOTA: 10}, SMS_LIMIT, {RESERVATION: Reserved(other, 4)})
    assert grants.granted == [False]
    assert not grants.drawn


def test_a_full_limit_grants_what_was_reserved() -> None:
    grants = grant([Demand(QUOTA, 2, RESERVATION)], {QUOTA: 50}, SMS_LIMIT, {RESERVATION: Reserved(QUOTA, 2)})
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
def test_a_month_begins_in_the_time_zone(moment: datetime, zone: str, period: date) -> None:
    assert period_of(moment, zone) == period
