"""Which shops open in the course of the world: with a grant, or after a time as a supplier of Design Gallery."""

from __future__ import annotations

import numpy as np
import polars as pl

from infra.simulator.partners.gallery import items
from infra.simulator.partners.tid import applications
from infra.simulator.shops import shops
from infra.simulator.world import World

# Planted: days from the grant, or from the first day at Design Gallery, to that on which the shop opens.
OPENS_AFTER = (15, 150)
# Planted: of the suppliers that Design Gallery takes on later, the share whose shops open only then, if they have any.
GOES_ON = 0.6
NEVER = 10**7


def opens(world: World) -> np.ndarray:
    """The day (since 1970-01-01) on which each shop opens: 0 for one that was there before, NEVER for one without a grant."""
    if "opens" not in world.kept:
        known, generator = shops(world), world.rng("openings")
        after = generator.integers(*OPENS_AFTER, len(known))
        goes_on = world.rng("goes-on").random(len(world.population.smes))[known["sme_no"].to_numpy()] < GOES_ON
        from_gallery = _day_of(known, items(world).group_by("sme_no").agg(pl.col("on_sale_from").min()), "sme_no")
        granted = applications(world).filter(
            (pl.col("outcome") == "approved") & (pl.col("programme") == "bud_ecommerce_easy")
        )
        by_grant = _day_of(known, granted.group_by("brn").agg(pl.col("decided_on").min().cast(pl.Int32)), "brn")
        world.kept["opens"] = np.select(
            [known["opens_by_grant"].to_numpy(), goes_on & (from_gallery > 0)],
            [np.where(by_grant > 0, by_grant + after, NEVER), from_gallery + after],
            0,
        )
    found: np.ndarray = world.kept["opens"]
    return found


def _day_of(known: pl.DataFrame, days: pl.DataFrame, key: str) -> np.ndarray:
    """The day of the owner of each shop, of a table with one row per owner and columns `key` and a day; 0 without one."""
    name = next(column for column in days.columns if column != key)
    found = known.select(key).join(days, on=key, how="left", maintain_order="left")[name]
    return found.cast(pl.Int64).fill_null(0).to_numpy()
