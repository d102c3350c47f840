"""Business days in Hong Kong time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

HONG_KONG = ZoneInfo("Asia/Hong_Kong")


@cache
def _holidays(year: int) -> frozenset[date]:
    import holidays

    # General holidays are the statutory ones and those that the library calls optional, Good Friday among them.
    return frozenset(holidays.country_holidays("HK", years=year, categories=("public", "optional")))


def is_business_day(day: date) -> bool:
    """Monday to Friday and no general holiday of Hong Kong."""
    return day.weekday() < 5 and day not in _holidays(day.year)


def business_days(start: date) -> Iterator[date]:
    """Business days from `start` on, without end."""
    day = start
    while True:
        if is_business_day(day):
            yield day
        day += timedelta(days=1)


def today() -> date:
    """The date in Hong Kong now."""
    return datetime.now(HONG_KONG).date()
