"""What every simulated partner knows: the seed, the population, and which calendar days a business date covers.

A world has a first day and no last one. All that happens in it follows from the seed, the one it happens to and the day,
never from how many days are asked for: any part of its schedule can be delivered, again or in another order, with the same
bytes (docs/adr/0034-a-world-has-a-first-day-and-no-last.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import islice
from typing import Any

import numpy as np
import polars as pl
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
    """A business date and the calendar days that its deliveries cover: those since the business date before.

    `serial` counts the business dates that are delivered one by one, from 0; None for a larger delivery of the history.
    """

    business_date: date
    first_day: date
    serial: int | None = None

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
        Period(day, previous + timedelta(days=1), serial)
        for serial, (previous, day) in enumerate(zip([before, *found[:-1]], found, strict=True))
    ]


@dataclass(frozen=True)
class Effects:
    """What funding does, as factors: to the exports of an enterprise from the start of its first project on, and to the
    orders of its shops from the start of its first E-commerce Easy project on."""

    exports_funded: float = 1.12
    orders_funded: float = 1.15


def monthly(first: date, last: date, months: int = 1) -> list[Period]:
    """Periods of so many months, the last one maybe fewer, from the month of `first` to that of `last`; each ends with the
    last business date of its last month."""
    found, start, end_of_all = [], first.replace(day=1), month_after(last, 1)
    while start < end_of_all:
        after = min(month_after(start, months), end_of_all)
        end = after - timedelta(days=1)
        while not is_business_day(end):
            end -= timedelta(days=1)
        begin = found[-1].business_date + timedelta(days=1) if found else start
        found.append(Period(end, begin))
        start = after
    return found


def month_after(day: date, count: int) -> date:
    """The first day of the month that comes so many months after that of a day."""
    months = day.year * 12 + day.month - 1 + count
    return date(months // 12, months % 12 + 1, 1)


@dataclass(frozen=True)
class Plan:
    """How a world is delivered: `history` first, a period of some months each, then business dates one by one.

    Without a history the first business date is `daily_from`, or the first one after it when that is a day off.
    """

    daily_from: date
    history_from: date | None = None
    history_months: int = 3

    def schedule(self, last: date) -> list[Period]:
        """The periods up to a day, from the first one on. Raises ValueError when there is none."""
        if self.history_from is None:
            found, start = [], self.daily_from
        else:
            found = monthly(self.history_from, month_after(self.daily_from, -1), self.history_months)
            start = found[-1].business_date + timedelta(days=1)
        one_by_one = periods(start, 1 + max(0, (last - start).days))
        found = [period for period in [*found, *one_by_one] if period.business_date <= last]
        if not found:
            raise ValueError(f"the world begins on {one_by_one[0].business_date}, after {last}")
        return found


@dataclass
class World:
    """One simulation: what all partners share. `kept` holds tables that two feeds of one partner are made from.

    `schedule` has the periods from the first one on; those of business dates from `since` on are to be delivered, or all.
    `volume` scales how much is traded, ordered and insured, so that a long history of few enterprises stays small.
    """

    seed: int
    population: Population
    schedule: list[Period]
    volume: float = 1.0
    effects: Effects = field(default_factory=Effects)
    since: date | None = None
    kept: dict[str, Any] = field(default_factory=dict)
    # Sums of the declarations lodged on each day, which statistics are made from and a look at another part needs again.
    lodged_sums: dict[date, pl.DataFrame] = field(default_factory=dict)

    def part(self, since: date, last: date) -> World:
        """The same world up to a day. The business dates from `since` on are to be delivered."""
        schedule = [period for period in self.schedule if period.business_date <= last]
        return replace(self, schedule=schedule, since=since, kept={})

    @property
    def periods(self) -> list[Period]:
        """The periods to be delivered."""
        return [period for period in self.schedule if self.since is None or period.business_date >= self.since]

    @property
    def first(self) -> date:
        """First calendar day of the world."""
        return self.schedule[0].first_day

    @property
    def last(self) -> date:
        """Last calendar day that is looked at. What happens until then does not depend on it."""
        return self.schedule[-1].business_date

    def rng(self, *labels: str | int | date) -> np.random.Generator:
        """A generator of this world for a purpose."""
        return rng(self.seed, *labels)

    def covers(self, period: Period, day: date) -> bool:
        """Whether what happened on a day comes with a period: with the first one all that was before."""
        return day <= period.business_date and (day >= period.first_day or period == self.schedule[0])

    def period_of(self, day_numbers: np.ndarray) -> np.ndarray:
        """Position in `periods` of the one that covers each day (the first of the world any day before it).

        -1 for a day that came before what is delivered, len(periods) for any day after it.
        """
        chosen = self.periods
        ends = np.array([number(period.business_date) for period in chosen])
        found = np.searchsorted(ends, day_numbers)
        if chosen[0] != self.schedule[0]:
            found = np.where(day_numbers < number(chosen[0].first_day), -1, found)
        return found

    def by_month(
        self, table: str, first: date, make: Callable[[date], pl.DataFrame], last: date | None = None
    ) -> pl.DataFrame:
        """The parts of a table, which `make` gives for the first day of each month from that of `first` to the last one.

        A part depends on its month alone, so that a later look at the world only adds parts.
        """
        if table not in self.kept:
            parts = [make(month) for month in months(first, last or self.last)]
            # A month without a row does not know the types of its columns.
            self.kept[table] = pl.concat(parts, how="vertical_relaxed")
        found: pl.DataFrame = self.kept[table]
        return found


def months(first: date, last: date) -> list[date]:
    """The first days of the months from that of a day to that of another."""
    count = (last.year - first.year) * 12 + last.month - first.month + 1
    return [month_after(first, place) for place in range(count)]
