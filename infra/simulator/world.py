"""What every simulated partner knows: the seed, the population, and which calendar days a business date covers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import islice
from typing import Any

import numpy as np
from sampan.calendar import business_days, is_business_day

from infra.simulator.draws import number, rng
from infra.simulator.population import Population

# The shopping festivals: event, first and last day.
FESTIVALS = (
    ("HKSF-2024", date(2024, 8, 1), date(2024, 8, 31)),
    ("HKSF-2025", date(2025, 8, 1), date(2025, 8, 31)),
    ("HKSF-2026", date(2026, 8, 1), date(2026, 8, 31)),
)


def festival_on(day: date) -> str | None:
    """The festival that runs on a day."""
    return next((event for event, first, last in FESTIVALS if first <= day <= last), None)


@dataclass(frozen=True)
class Period:
    """A business date and the calendar days that its deliveries cover: those since the business date before."""

    business_date: date
    first_day: date

    @property
    def days(self) -> list[date]:
        """The calendar days covered."""
        return [self.first_day + timedelta(days=step) for step in range((self.business_date - self.first_day).days + 1)]


def periods(start: date, count: int) -> list[Period]:
    """`count` business dates from `start` on, each with the days it covers."""
    found = list(islice(business_days(start), count))
    before = found[0] - timedelta(days=1)
    while not is_business_day(before):
        before -= timedelta(days=1)
    return [
        Period(day, previous + timedelta(days=1)) for previous, day in zip([before, *found[:-1]], found, strict=True)
    ]


@dataclass(frozen=True)
class Effects:
    """What funding does, as factors: to the exports of an enterprise from the start of its first project on, and to the
    orders of its shops from the start of its first E-commerce Easy project on."""

    exports_funded: float = 1.12
    orders_funded: float = 1.15


def monthly(first: date, last: date) -> list[Period]:
    """Periods that end with the last business date of each month, from the month of `first` to that of `last`."""
    found, start = [], first.replace(day=1)
    while start <= last:
        after = (start + timedelta(days=31)).replace(day=1)
        end = after - timedelta(days=1)
        while not is_business_day(end):
            end -= timedelta(days=1)
        begin = found[-1].business_date + timedelta(days=1) if found else start
        found.append(Period(end, begin))
        start = after
    return found


@dataclass
class World:
    """One simulation: what all partners share. `kept` holds tables that two feeds of one partner are made from.

    `volume` scales how much is traded, ordered and insured, so that a long window of few enterprises stays small.
    """

    seed: int
    population: Population
    periods: list[Period]
    volume: float = 1.0
    effects: Effects = field(default_factory=Effects)
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def first(self) -> date:
        """First calendar day covered."""
        return self.periods[0].first_day

    @property
    def last(self) -> date:
        """Last calendar day covered."""
        return self.periods[-1].business_date

    def rng(self, *labels: str | int | date) -> np.random.Generator:
        """A generator of this world for a purpose."""
        return rng(self.seed, *labels)

    def period_of(self, day_numbers: np.ndarray) -> np.ndarray:
        """Position of the period that covers each day; 0 for any day before, len(periods) for any day after."""
        ends = np.array([number(period.business_date) for period in self.periods])
        return np.searchsorted(ends, day_numbers)
