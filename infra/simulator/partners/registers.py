"""The business register: the whole of it on the first business date, then what changed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np
import polars as pl

from infra.simulator import vocabulary as words
from infra.simulator.draws import dates, digits, number, only, pick
from infra.simulator.world import World

ORDER = (
    "brn",
    "branch_no",
    "name_en",
    "name_zh",
    "legal_form",
    "cr_no",
    "status",
    "commencement_date",
    "cessation_date",
    "industry_section",
    "hsic_code",
    "persons_engaged",
    "size_basis",
    "size_as_of",
    "district",
    "owner_name",
    "changed_on",
)
# Changes of a business a day, and of a day at least.
CHANGED_A_DAY, CHANGED_AT_LEAST = 0.0006, 2
# Days within which a business that begins after the first day of the world does so.
BEGINS_WITHIN = 1500
# Planted: a new head-count is the one before times e to a normal draw with this mean and spread.
GROWTH = (0.06, 0.4)


def business_register(world: World) -> Iterator[tuple[date, pl.DataFrame]]:
    """Main businesses and branches; changes are new head-counts, moves, cessations and businesses that begin."""
    chosen = {period.business_date for period in world.periods}
    # What changes depends on what changed before, so that every part is made from the first day on.
    yield from ((day, frame) for day, frame in _history(world) if day in chosen)


def _history(world: World) -> Iterator[tuple[date, pl.DataFrame]]:
    everything = _register(world)
    begins = everything["commencement_date"] >= world.first
    current = everything.filter(~begins)
    newcomers = everything.filter(begins)
    for index, period in enumerate(world.schedule):
        if index == 0:
            yield period.business_date, current.select(ORDER)
            continue
        generator = world.rng("register", period.business_date)
        days = len(period.days)
        count = max(CHANGED_AT_LEAST, generator.poisson(len(current) * CHANGED_A_DAY * days))
        live = current.filter(pl.col("status") == "live")
        live = live[np.sort(generator.choice(len(live), min(count, len(live)), replace=False))]
        changed = _changed(generator, live, period.business_date)
        begun = newcomers.filter(pl.col("commencement_date").is_between(period.first_day, period.business_date))
        begun = begun.with_columns(pl.lit(period.business_date).alias("changed_on"))
        today = pl.concat([changed, begun])
        current = pl.concat([current.join(today, on=["brn", "branch_no"], how="anti", maintain_order="left"), today])
        yield period.business_date, today.select(ORDER)


def _register(world: World) -> pl.DataFrame:
    """Every row that the register has or will have."""
    day_before = world.first - timedelta(days=1)
    generator = world.rng("register")
    smes = world.population.smes
    count = len(smes)
    known = smes["size_basis"].to_numpy() != "unknown"
    # Enterprises that already trade do not begin later; a few others begin after the first day.
    idle = (
        (smes["exports_a_year"] + smes["imports_a_year"] == 0) & ~smes["is_applicant"] & ~smes["has_shop"]
    ).to_numpy()
    late = idle & (generator.random(count) < 0.05)
    within = number(world.first) + generator.integers(0, BEGINS_WITHIN, count)
    begun = only(late, dates(within), smes["commenced_on"])
    commenced = begun.cast(pl.Int32).to_numpy()
    # What begins after the first day of the world has not ended before it.
    ceased = idle & ~late & (generator.random(count) < 0.04) & (commenced < number(world.first))
    cessation = commenced + ((number(world.first) - commenced) * generator.uniform(0.2, 0.99, count)).astype(int)
    company = smes["legal_form"].is_in(["company", "non_hong_kong_company"])
    status = only(ceased, only(company, pl.Series(["dissolved"] * count), "ceased"), "live")
    frame = smes.with_columns(
        pl.lit("000").alias("branch_no"),
        begun.alias("commencement_date"),
        only(ceased, dates(cessation)).alias("cessation_date"),
        status.alias("status"),
        only(known, smes["persons_engaged"]).alias("persons_engaged"),
        only(known, dates(np.full(count, number(min(date(2026, 3, 31), day_before))))).alias("size_as_of"),
        only(late, begun, pl.Series([min(date(2026, 6, 30), day_before)] * count)).alias("changed_on"),
    ).select(ORDER)
    branched = frame.filter(pl.Series(~late & ~ceased & (generator.random(count) < 0.06)))
    branches = pl.concat(
        [
            branched.head(len(branched) // share).with_columns(
                pl.lit(digits(np.array([branch]), 3)[0]).alias("branch_no")
            )
            for branch, share in ((1, 1), (2, 3))
        ]
    )
    return pl.concat([frame, branches]).sort("brn", "branch_no")


def _changed(generator: np.random.Generator, chosen: pl.DataFrame, day: date) -> pl.DataFrame:
    count = len(chosen)
    kind = generator.choice(["size", "district", "ceased"], count, p=[0.6, 0.3, 0.1])
    size, move, end = (pl.lit(pl.Series(kind == name)) for name in ("size", "district", "ceased"))
    company = pl.col("legal_form").is_in(["company", "non_hong_kong_company"]) & (pl.col("branch_no") == "000")
    return chosen.with_columns(
        pl.when(size)
        .then(pl.lit(pl.Series(_grown(generator, chosen["persons_engaged"]))))
        .otherwise("persons_engaged")
        .alias("persons_engaged"),
        pl.when(size).then(pl.lit("declared")).otherwise("size_basis").alias("size_basis"),
        pl.when(size).then(pl.lit(day)).otherwise("size_as_of").alias("size_as_of"),
        pl.when(move).then(pl.lit(pick(generator, words.DISTRICTS, count))).otherwise("district").alias("district"),
        pl.when(end & company)
        .then(pl.lit("dissolved"))
        .when(end)
        .then(pl.lit("ceased"))
        .otherwise("status")
        .alias("status"),
        pl.when(end).then(pl.lit(day)).otherwise("cessation_date").alias("cessation_date"),
        pl.lit(day).alias("changed_on"),
    )


def _grown(generator: np.random.Generator, persons: pl.Series) -> np.ndarray:
    """The head-counts some time later, which may be of another size class; a first one where none was known."""
    first = np.clip(generator.lognormal(1.35, 1.15, len(persons)), 1, 900)
    before = persons.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    later = np.clip(before * np.exp(generator.normal(*GROWTH, len(persons))), 1, 900)
    grown: np.ndarray = np.where(np.isnan(before), first, np.round(later)).astype(int)
    return grown
