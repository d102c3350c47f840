"""Exchange rates as HKMA's API answers them: floating point noise, dead currencies null, Saturdays mostly absent."""

from __future__ import annotations

from datetime import date, timedelta
from functools import cache
from typing import Any

import numpy as np
from sampan.calendar import is_business_day

from infra.simulator.draws import rng

# HKD per unit as published for 27 February 2026, in the order of the answer's keys; None for currencies that ended.
LEVELS: dict[str, float | None] = {
    "usd": 7.825,
    "gbp": 10.536,
    "jpy": 0.05015,
    "cad": 5.7235,
    "aud": 5.574,
    "sgd": 6.188,
    "twd": 0.255,
    "chf": 10.1195,
    "cny": 1.1417,
    "krw": 0.005433,
    "thb": 0.25235,
    "myr": 2.0116,
    "dem": None,
    "nlg": None,
    "bef": None,
    "frf": None,
    "itl": None,
    "eur": 9.236,
    "php": 0.1345,
    "inr": 0.0855,
    "idr": 0.0004666,
    "zar": 0.492,
    "special_drawing_rights": 10.75757525,
}
INDICES = {2020: (101.1, 101.7, 100.4), 1983: None, 2000: None, 2010: None}
ORIGIN, END = date(2015, 1, 1), date(2031, 12, 31)
SATURDAYS_PRESENT = 0.06


@cache
def _walk(seed: int) -> np.ndarray:
    """Deviation of each currency from its level by day since ORIGIN: pulled back to 0, so that no rate runs away."""
    days, currencies = (END - ORIGIN).days + 1, len(LEVELS)
    steps = rng(seed, "rates").normal(0, 1, (days, currencies))
    spread = np.array([0.0002 if name == "usd" else 0.0012 if name == "cny" else 0.004 for name in LEVELS])
    walk = np.zeros((days, currencies))
    for day in range(1, days):
        walk[day] = 0.985 * walk[day - 1] + spread * steps[day]
    return walk


@cache
def _saturdays(seed: int) -> np.ndarray:
    return rng(seed, "saturdays").random((END - ORIGIN).days + 1) < SATURDAYS_PRESENT


def records(seed: int, first: date, last: date) -> list[dict[str, Any]]:
    """Records of the days from `first` to `last`, newest first, with the keys of the API in its order."""
    first, last = max(first, ORIGIN), min(last, END)
    found = []
    for offset in range((last - first).days, -1, -1):
        day = first + timedelta(days=offset)
        if is_business_day(day) or (day.weekday() == 5 and _saturdays(seed)[(day - ORIGIN).days]):
            found.append(_record(seed, day))
    return found


def _record(seed: int, day: date) -> dict[str, Any]:
    walk = _walk(seed)[(day - ORIGIN).days]
    record: dict[str, Any] = {"end_of_day": day.isoformat()}
    for position, (name, level) in enumerate(LEVELS.items()):
        rate = None
        if level is not None and not (name == "special_drawing_rights" and day.weekday() == 5):
            # The middle of a rounded buying and a rounded selling rate, in binary floating point as the API gives it.
            places = 4 if level > 0.5 else 6
            value = level * float(np.exp(walk[position]))
            if name == "usd":
                value = min(max(value, 7.7501), 7.8499)
            rate = (round(value * 0.9995, places) + round(value * 1.0005, places)) / 2
        record[name] = rate
    for year in (1983, 2000, 2010, 2020):
        for position, weight in enumerate(("trade", "import", "export")):
            level = INDICES[year]
            record[f"neeri_{year}_{weight}_wgt"] = (
                None if level is None else round(level[position] - 40 * float(walk[8]), 1)
            )
    return record
