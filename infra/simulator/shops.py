"""Shops on the Mainland platforms, which the platforms, HKTDC and the mark issuers all know."""

from __future__ import annotations

import numpy as np
import polars as pl

from infra.simulator import names
from infra.simulator import vocabulary as words
from infra.simulator.draws import digits, take
from infra.simulator.world import World

# Planted: the share of shops that sell from a bonded warehouse, nearly all under one customs regime.
BONDED_SHOPS = 0.15


def shops(world: World) -> pl.DataFrame:
    """One row per shop: the enterprise behind it, platform, number, name in simplified characters, orders a day."""
    if "shops" in world.kept:
        return world.kept["shops"]
    generator = world.rng("shops")
    owners = world.population.smes.filter("has_shop")
    row = np.repeat(np.arange(len(owners)), owners["shops"].to_numpy())
    count = len(row)
    second = np.concatenate([[False], row[1:] == row[:-1]]) if count else np.zeros(0, dtype=bool)
    platform = generator.choice(len(words.PLATFORMS), count, p=[0.2, 0.35, 0.22, 0.06, 0.1, 0.07])
    first_platform = np.concatenate([[0], platform[:-1]]) if count else platform
    platform = np.where(second & (platform == first_platform), (platform + 1) % len(words.PLATFORMS), platform)
    sellable = [position for position, good in enumerate(words.GOODS) if good[4] != "trade"]
    good = np.array(sellable)[generator.integers(0, len(sellable), len(owners))][row]
    # Planted: who applies for funding opens a second shop with an E-commerce Easy grant only.
    by_grant = second & owners["is_applicant"].to_numpy()[row]
    called = names.shop_names(world.rng("shop-names"), owners[row])
    world.kept["shops"] = pl.DataFrame(
        {
            "sme_no": owners["sme_no"].gather(pl.Series(row)),
            "brn": owners["brn"].gather(pl.Series(row)),
            "platform": take(words.PLATFORMS, platform),
            "store_id": digits(100_000_000 + generator.permutation(count), 9),
            "shop_name": called["shop_name"],
            "name_script": called["name_script"],
            "name_corruption": called["name_corruption"],
            "good": good,
            "category": take([entry[4] for entry in words.GOODS], good),
            "orders_a_day": owners["orders_a_day"].to_numpy()[row] * np.where(second, 0.4, 1.0) * world.volume,
            "in_festival": owners["in_festival"].gather(pl.Series(row)),
            "opens_by_grant": by_grant,
            "is_bonded": world.rng("bonded").random(count) < BONDED_SHOPS,
        }
    )
    return world.kept["shops"]
