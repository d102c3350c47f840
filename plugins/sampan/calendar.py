"""Business days in Hong Kong time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

HONG_KONG = ZoneInfo("Asia/Hong_Kong")


@cache
def holidays(year: int) -> dict[date, str]:
    """General holidays of Hong Kong in a year, with their English names."""
    from holidays import country_holidays

    # General holidays are the statutory ones and those that the library calls optional, such as Good Friday.
    found = country_holidays("HK", years=year, categories=("public", "optional"), language="en_US")
    return dict(found.items())


def is_business_day(day: date) -> bool:
    """Whether a day is Monday to Friday and not a general holiday of Hong Kong."""
    return day.weekday() < 5 and day not in holidays(day.year)


def business_days(start: date) -> Iterator[date]:
    """Business days from `start` on, endlessly."""
    day = start
    while True:
        if is_business_day(day):
            yield day
        day += timedelta(days=1)


def today() -> date:
    """The current date in Hong Kong."""
    return datetime.now(HONG_KONG).date()
