"""Visits and live streams of the shops, as the Mainland platforms count them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import numpy as np
import polars as pl

from infra.simulator.draws import number, only
from infra.simulator.partners.openings import opens
from infra.simulator.partners.platforms import (
    FEES,
    PAID_OF_FEE,
    expected_orders,
    live_sessions,
    orders_placed,
    prices,
)
from infra.simulator.shops import shops
from infra.simulator.world import World

# Planted: orders per visit lie between these by shop.
CONVERSION = (0.012, 0.05)
# The share of a day's orders, each at the least that it may cost, that is paid in the live streams of the day: some are never
# paid, and live sales are part of all.
PAID_LIVE = (0.2, 0.6)


def conversion(world: World) -> np.ndarray:
    """Orders per visit of each shop."""
    return world.rng("conversion").uniform(*CONVERSION, len(shops(world)))


def platform_traffic(world: World) -> Iterator[tuple[date, pl.DataFrame | None]]:
    """For each business date a row per open shop and day since the one before."""
    for period in world.periods:
        today = pl.concat([_counted(world, day) for day in period.days])
        yield period.business_date, today if len(today) else None


def _counted(world: World, day: date) -> pl.DataFrame:
    known, generator = shops(world), world.rng("traffic", day)
    count = len(known)
    visits = generator.poisson(expected_orders(world, day) / conversion(world) + 3)
    visitors = np.minimum(visits, 1 + generator.binomial(visits, 0.55))
    sessions = live_sessions(world, day)
    viewers = np.where(sessions > 0, generator.poisson(40 + visits * 0.6), 0)
    least = orders_placed(world, day) * prices(world) * FEES[0] * PAID_OF_FEE[0]
    paid = np.where(sessions > 0, np.round(least * generator.uniform(*PAID_LIVE, count), 2), 0.0)
    # Two of the platforms do not tell new visitors from others.
    tells = ~known["platform"].is_in(["pinduoduo", "xiaohongshu"]).to_numpy()
    return pl.DataFrame(
        {
            "stat_date": pl.Series([day] * count, dtype=pl.Date),
            "platform": known["platform"],
            "store_id": known["store_id"],
            "visits": visits,
            "visitors": visitors,
            "new_visitors": only(tells, pl.Series(generator.binomial(visitors, 0.4))),
            "live_sessions": sessions,
            "live_minutes": sessions * generator.integers(40, 240, count),
            "live_viewers": viewers,
            "live_payment_cny": paid,
            "shop_name": known["shop_name"],
        }
    ).filter(pl.Series(opens(world) <= number(day)))
