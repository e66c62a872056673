"""Parts against the monthly limits: which messages may have theirs. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo


class Quota(NamedTuple):
    """What a limit applies to: an organisation, a month (its first day) and a format."""

    organisation_id: str
    period: date
    format: str


@dataclass(frozen=True, slots=True)
class Demand:
    """Parts that a message needs: those of an SMS, 1 for an MMS.

    They come from its reservation first, if it has one.
    """

    quota: Quota
    parts: int
    reservation: UUID | None = None


class Reserved(NamedTuple):
    """A reservation: its quota, and the parts that are left in it."""

    quota: Quota
    parts: int


@dataclass(slots=True)
class Grants:
    """The result of granting demands.

    `granted` says for each demand, in order, whether it has its parts. `added` is what that adds to the usage, and
    `drawn` what it draws from reservations.
    """

    granted: list[bool] = field(default_factory=list)
    added: dict[Quota, int] = field(default_factory=dict)
    drawn: dict[UUID, int] = field(default_factory=dict)


def period_of(moment: datetime, zone: str) -> date:
    """Return the first day of the calendar month of a moment, in a time zone."""
    return moment.astimezone(ZoneInfo(zone)).date().replace(day=1)


def grant(
    demands: Sequence[Demand],
    usage: Mapping[Quota, int],
    limits: Mapping[tuple[str, str], int],
    reservations: Mapping[UUID, Reserved],
) -> Grants:
    """Grant the demands that fit, in order.

    `limits` is by (organisation, format). Reserved parts are in the usage already; a demand for more than its
    reservation has left needs only the rest from the limit. A refused demand leaves its reservation as it was.
    """
    grants = Grants()
    for demand in demands:
        quota = demand.quota
        reserved = 0
        if demand.reservation is not None and demand.reservation in reservations:
            reservation = reservations[demand.reservation]
            if reservation.quota == quota:
                reserved = min(demand.parts, reservation.parts - grants.drawn.get(demand.reservation, 0))
        fresh = demand.parts - reserved
        limit = limits.get((quota.organisation_id, quota.format))
        fits = fresh == 0 or limit is None or usage[quota] + grants.added.get(quota, 0) + fresh <= limit
        grants.granted.append(fits)
        if not fits:
            continue
        if fresh:
            grants.added[quota] = grants.added.get(quota, 0) + fresh
        if reserved and demand.reservation is not None:
            grants.drawn[demand.reservation] = grants.drawn.get(demand.reservation, 0) + reserved
    return grants
