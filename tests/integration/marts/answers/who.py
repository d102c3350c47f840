"""Who is who, as the linkage found it. How well it finds is measured in test_identity; here it is taken as given."""

from __future__ import annotations

import polars as pl
import psycopg
from sampan.settings import settings

from tests.integration.world import Simulated


def linked(world: Simulated, source: str) -> pl.DataFrame:
    """One row per identifier of a source (number, shop, mission, certificate): `source_key` and `sme_id`."""
    query = "select source_key, sme_id from intermediate.int_sme__linked where source = %s"
    with world.installed(), psycopg.connect(settings().dsn("builder")) as connection:
        rows = connection.execute(query, [source]).fetchall()
    return pl.DataFrame(rows, schema={"source_key": pl.String, "sme_id": pl.String}, orient="row")


def shop_key() -> pl.Expr:
    """The identifier of a shop, of the columns `platform` and `store_id`."""
    return pl.concat_str("platform", pl.lit(":"), "store_id").alias("source_key")
