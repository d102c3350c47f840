"""Names as people write them, and how often the parts of registered names occur: what linkage is measured on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import polars as pl
from sampan.identity.linkage import NameRecord

from infra.simulator import names
from infra.simulator.draws import rng

SCHEMA = {"sme_no": pl.Int64, "brn": pl.String, "script": pl.String, "name": pl.String, "corruption": pl.String}


def written(seed: int, smes: pl.DataFrame) -> pl.DataFrame:
    """A name per enterprise and script, without any number, and what was done to it."""
    generator = rng(seed, "written-names")
    rows = [
        (owner["sme_no"], owner["brn"], script, *names.written(generator, owner, script))
        for owner in smes.iter_rows(named=True)
        for script in ("en", "zh")
        if owner[f"name_{script}"]
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def frequencies(records: Iterable[NameRecord]) -> dict[str, int]:
    """How many enterprises have each key."""
    return Counter(key for _, key in {(record.entity, key) for record in records for key in record.name.keys})
