"""Declarations as the Customs and Excise Department hands them over: header and line flattened, amendments whole."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
from sampan.calendar import holidays

from infra.simulator import vocabulary as words
from infra.simulator.draws import dates, digits, joined, number, rng, take
from infra.simulator.partners.tid import applications
from infra.simulator.population import make
from infra.simulator.world import Period, World, periods

GROWTH_A_YEAR = 0.06
MONTHS = (0.97, 0.78, 1.02, 0.97, 1.0, 0.99, 1.03, 1.06, 1.08, 1.04, 1.06, 1.0)
WEEKDAYS = (1.14, 1.12, 1.1, 1.12, 1.16, 0.9, 0.46)
LATE_SHARE, AMENDED_SHARE, AMENDED_AGAIN_SHARE = 0.045, 0.03, 0.15
# Planted: from ORIGIN on a share of exporters stops each year; others have their first export within some days of it.
ORIGIN, NEVER = date(2023, 1, 1), 10**7
STOP_A_YEAR, LATE_STARTERS, LATE_WITHIN = 0.06, 0.08, 2000
# Planted: share of the declarations lodged on the day after days off that were due on those, in time by Cap. 1 section 71.
DUE_ON_DAYS_OFF = 0.04
# No version is lodged so many days after the first one.
AMENDED_WITHIN = 20
# Lines that are kept to be looked at again.
LINES_KEPT = 300_000
ORDER = (
    "declaration_no", "version", "line_no", "form_type", "lodged_at", "movement_date", "transport_mode", "conveyance",
    "transport_document_no", "place", "counterparty_country", "trader_name", "trader_id", "agent_brn", "packages",
    "package_kind", "hkhs_code", "goods_description", "origin_country", "quantity", "unit_code", "value_hkd",
)  # fmt: skip


@dataclass(frozen=True)
class Traders:
    """Who lodges, as arrays over traders: declarations a year, positions of goods and markets in the vocabulary."""

    name: pl.Series
    identity: pl.Series
    agent: pl.Series
    exports: np.ndarray
    imports: np.ndarray
    goods: np.ndarray
    markets: np.ndarray
    supplier: np.ndarray
    since: np.ndarray  # day on which business begins
    exports_since: np.ndarray  # day on which exports begin
    exports_until: np.ndarray  # day from which on nothing is exported


def traders(world: World) -> Traders:
    """The enterprises that trade, then the individuals."""
    firms = world.population.smes.filter((pl.col("exports_a_year") > 0) | (pl.col("imports_a_year") > 0))
    persons = world.population.individuals
    generator, count = world.rng("customs-individuals"), len(persons)
    none = np.zeros(count, dtype=np.int64)
    lasting, origin = world.rng("exporting"), number(ORIGIN)
    later = lasting.random(len(firms)) < LATE_STARTERS
    begins = np.where(later, origin + lasting.integers(0, LATE_WITHIN, len(firms)), origin)
    lives = (lasting.exponential(365 / STOP_A_YEAR, len(firms))).astype(int)
    goods = generator.integers(0, len(words.GOODS) - 1, count)
    return Traders(
        name=pl.concat(
            [firms["name_en"].fill_null(firms["name_zh"]), pl.Series(["INDIVIDUAL"] * count, dtype=pl.String)]
        ),
        identity=pl.concat([firms["brn"], persons["hkid"]]),
        agent=pl.concat([firms["agent_brn"], pl.Series([None] * count, dtype=pl.String)]),
        exports=np.concatenate([firms["exports_a_year"].to_numpy(), none + 1.0]) * world.volume,
        imports=np.concatenate([firms["imports_a_year"].to_numpy(), none + 5.0]) * world.volume,
        goods=np.concatenate(
            [firms.select("good_1", "good_2", "good_3").to_numpy().T, np.stack([goods, goods, goods])], axis=1
        ),
        markets=np.concatenate([firms.select("market_1", "market_2").to_numpy().T, np.stack([none, none + 1])], axis=1),
        supplier=np.concatenate([firms["supplier"].to_numpy(), none]),
        since=np.concatenate([firms["commenced_on"].cast(pl.Int32).to_numpy(), none]),
        exports_since=np.concatenate([begins, none]),
        exports_until=np.concatenate([begins + lives, none + NEVER]),
    )


def activity(day: date) -> float:
    """Trade of a day against an average one: growth since 2026, season and weekday."""
    years = (day - date(2026, 1, 1)).days / 365
    return (1 + GROWTH_A_YEAR) ** years * MONTHS[day.month - 1] * WEEKDAYS[day.weekday()]


def declarations(world: World) -> Iterator[tuple[date, pl.DataFrame]]:
    """For each business date the lines lodged since the one before, new declarations first, then amendments."""
    amended: dict[date, pl.DataFrame] = {}
    for period in world.periods:
        since = _since(world, period)
        amended = {day: lines for day, lines in amended.items() if day >= since}
        parts = []
        for step in range((period.business_date - since).days + 1):
            day = since + timedelta(days=step)
            if day in amended and day < period.first_day:
                continue
            new = lodged(world, day)
            amended[day] = _amendments(world, new, day)
            if day >= period.first_day:
                parts.append(new)
        within = pl.col("on").is_between(period.first_day, period.business_date)
        found = pl.concat([*parts, *(lines.filter(within).select(ORDER) for lines in amended.values())])
        if len(found):
            yield period.business_date, found


def lodged(world: World, day: date, only: Collection[str] = ORDER) -> pl.DataFrame:
    """Lines of the declarations first lodged on a day, inside the window or not; of them all columns, or `only` some."""
    kept: dict[date, pl.DataFrame] = world.kept.setdefault("lodged", {})
    if day not in kept:
        is_declared = _since(world, world.periods[0]) <= day <= world.last
        if not is_declared or sum(map(len, kept.values())) > LINES_KEPT:
            return _lodged(world, day, only)
        # The statistics and the declarations of a small world are made of the same lines.
        kept[day] = _lodged(world, day, ORDER)
    return kept[day].select(only)


def _since(world: World, period: Period) -> date:
    """The first day whose declarations, or amendments of them, may come with a period."""
    return max(world.first, period.first_day - timedelta(days=AMENDED_WITHIN))


def _lodged(world: World, day: date, only: Collection[str]) -> pl.DataFrame:
    if "traders" not in world.kept:
        who = traders(world)
        world.kept["traders"] = who, _funded_from(world, who)
    who, funded_from = world.kept["traders"]
    generator = world.rng("customs", day)
    effect = np.where(funded_from <= number(day), world.effects.exports_funded, 1.0)
    begun = who.since <= number(day)
    exporting = begun & (who.exports_since <= number(day)) & (number(day) < who.exports_until)
    # All days before the first look at an exporter's life are of the same kind.
    exporting |= begun & (number(day) < number(ORIGIN)) & (who.exports_since <= number(ORIGIN))
    exports = generator.poisson(exporting * who.exports * effect * activity(day) / 365)
    imports = generator.poisson(begun * who.imports * activity(day) / 365)
    trader = np.concatenate([np.repeat(np.arange(len(exports)), exports), np.repeat(np.arange(len(imports)), imports)])
    return lines(generator, who, trader, np.arange(len(trader)) < exports.sum(), day, only)


def _funded_from(world: World, who: Traders) -> np.ndarray:
    """Day from which each trader's first approved project runs; far away where there is none."""
    first = (
        applications(world)
        .filter(pl.col("project_start_on").is_not_null())
        .group_by("brn")
        .agg(pl.col("project_start_on").min())
    )
    days = pl.DataFrame({"brn": who.identity}).join(first, on="brn", how="left", maintain_order="left")[
        "project_start_on"
    ]
    return days.cast(pl.Int32).fill_null(10**7).to_numpy()


def lines(
    generator: np.random.Generator,
    who: Traders,
    trader: np.ndarray,
    is_export: np.ndarray,
    day: date,
    only: Collection[str] = ORDER,
) -> pl.DataFrame:
    """Lines of new declarations (version 1) of one day; `trader` and `is_export` have one element per declaration.

    What is drawn does not depend on which columns are asked for.
    """
    count = len(trader)
    order = generator.permutation(count)
    trader, is_export = trader[order], is_export[order]
    today = number(day)
    late = generator.random(count) < LATE_SHARE
    lag = np.where(
        late, generator.integers(15, 60, count), np.minimum(generator.exponential(4.5, count).astype(int), 14)
    )
    off = days_off_before(day)
    if off:
        lag = np.where(
            ~late & (generator.random(count) < DUE_ON_DAYS_OFF), 14 + generator.integers(1, off + 1, count), lag
        )
    good = who.goods[(generator.random(count) * 1.6).astype(int) + (generator.random(count) < 0.12), trader]
    partner = np.where(
        is_export, who.markets[(generator.random(count) < 0.25).astype(int), trader], who.supplier[trader]
    )
    codes = np.array([entry[0] for entry in words.GOODS])
    chapter = np.array([entry[0][:2] for entry in words.GOODS])[good]
    gold = codes[good] == words.GOLD
    made_here = is_export & np.isin(chapter, words.CLOTHING_CHAPTERS) & (generator.random(count) < 0.06)
    form = np.select(
        [gold & is_export, gold, made_here, is_export, np.isin(chapter, words.FOOD_CHAPTERS)], [5, 2, 4, 3, 1], 0
    )
    mode = generator.choice(len(words.TRANSPORT_MODES), count, p=[share for _, share in words.TRANSPORT_MODES])
    seconds = (8 * 3600 + generator.random(count) * 43_000).astype(np.int64)
    vehicle, document = generator.integers(100, 9999, count), generator.integers(0, 10**9, count)
    packages = np.ceil(generator.lognormal(2.0, 1.0, count)).astype(np.int64)
    kind = generator.choice(len(words.PACKAGE_KINDS), count)
    of_header: dict[str, Callable[[], Any]] = {
        "declaration_no": lambda: joined("TD", day.strftime("%y%m%d"), digits(np.arange(count) + 1, 8)),
        "form_type": lambda: take(["1", "1A", "1B", "2", "2A", "2B"], form),
        "lodged_at": lambda: (
            pl.Series((today * 86_400 + seconds) * 1_000).cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%d %H:%M:%S")
        ),
        "movement_date": lambda: dates(today - lag).cast(pl.String),
        "transport_mode": lambda: take([name for name, _ in words.TRANSPORT_MODES], mode),
        "conveyance": lambda: joined(take(["TRK ", "FLT ", "MV ", "BRG ", "TRN ", "MAIL "], mode), digits(vehicle, 4)),
        "transport_document_no": lambda: joined(take(["RM", "AWB", "BL", "BL", "RW", "PP"], mode), digits(document, 9)),
        "place": lambda: take([entry[4][0] for entry in words.MARKETS], partner),
        "counterparty_country": lambda: take([entry[0] for entry in words.MARKETS], partner),
        "trader_name": lambda: who.name.gather(pl.Series(trader)),
        "trader_id": lambda: who.identity.gather(pl.Series(trader)),
        "agent_brn": lambda: who.agent.gather(pl.Series(trader)),
        "packages": lambda: packages,
        "package_kind": lambda: take(words.PACKAGE_KINDS, kind),
    }
    counted = 1 + np.minimum(generator.poisson(0.85, count), 9)
    owner = np.repeat(np.arange(count), counted)
    total = len(owner)
    line_no = np.arange(total) - np.repeat(np.cumsum(counted) - counted, counted) + 1
    good_of_line = good[owner]
    price = np.array([entry[3] for entry in words.GOODS])[good_of_line]
    value = np.round(np.clip(generator.lognormal(9.7, 1.35, total), 40, 5e8), 2)
    origin = np.where(is_export, np.where(made_here, -1, np.where(generator.random(count) < 0.72, 0, partner)), partner)
    own = is_export & ~made_here & (generator.random(count) < 0.02)
    origin = np.where(own, -1, origin)[owner]
    of_line: dict[str, Callable[[], Any]] = {
        "line_no": lambda: line_no,
        "hkhs_code": lambda: _of_edition(codes[good_of_line], (today - lag)[owner]),
        "goods_description": lambda: take([entry[1] for entry in words.GOODS], good_of_line),
        "origin_country": lambda: take(
            [entry[0] for entry in words.MARKETS] + ["690"], np.where(origin < 0, len(words.MARKETS), origin)
        ),
        "quantity": lambda: np.maximum(np.round(value / price, 2), 0.01),
        "unit_code": lambda: take([entry[2] for entry in words.GOODS], good_of_line),
        "value_hkd": lambda: value,
        "version": lambda: np.ones(total, dtype=np.int64),
    }
    header = pl.DataFrame({name: make() for name, make in of_header.items() if name in only})
    goods_table = pl.DataFrame({name: make() for name, make in of_line.items() if name in only})
    return pl.concat([header[owner], goods_table], how="horizontal").select(name for name in ORDER if name in only)


def days_off_before(day: date) -> int:
    """How many Sundays and general holidays lie just before a day; 0 for a day that is one itself."""
    count, before = 0, day - timedelta(days=1)
    while not _is_off(day) and _is_off(before):
        count, before = count + 1, before - timedelta(days=1)
    return count


def _is_off(day: date) -> bool:
    return day.weekday() == 6 or day in holidays(day.year)


def _of_edition(codes: np.ndarray, movement: np.ndarray) -> pl.Series:
    """The newest edition's codes as the edition of each movement's year has them; split ones by turns."""
    found, turn = codes.copy(), np.arange(len(codes)) % 10
    is_before = movement < number(date(words.HKHS_CHANGED_IN, 1, 1))
    since = {entry[1] for entry in words.HKHS_CHANGES}
    for code in since & set(codes):
        merged = [entry[0] for entry in words.HKHS_CHANGES if entry[1] == code]
        split = [entry for entry in words.HKHS_CHANGES if entry[0] == code]
        mine = codes == code
        for position, old in enumerate(merged):
            found[mine & is_before & (turn % len(merged) == position)] = old
        first = 0
        for _, new, share in split:
            last = first + round(10 * share)
            found[mine & ~is_before & (turn >= first) & (turn < last)] = new
            first = last
    return pl.Series(found)


def _amendments(world: World, new: pl.DataFrame, day: date) -> pl.DataFrame:
    """Later versions of some of the declarations lodged on a day, every line re-lodged, each with the day `on` which."""
    generator = world.rng("customs-amendments", day)
    numbers = new["declaration_no"].unique(maintain_order=True)
    amended = numbers.gather(pl.Series(np.flatnonzero(generator.random(len(numbers)) < AMENDED_SHARE)))
    again = amended.gather(pl.Series(np.flatnonzero(generator.random(len(amended)) < AMENDED_AGAIN_SHARE)))
    parts = []
    for version, chosen, waits in ((2, amended, (1, 10)), (3, again, (10, AMENDED_WITHIN))):
        table = pl.DataFrame({"declaration_no": chosen, "wait": generator.integers(*waits, len(chosen))})
        found = new.join(table, on="declaration_no", how="inner", maintain_order="left")
        factor = np.round(generator.uniform(0.7, 1.3, len(found)), 3)
        lodged = pl.col("lodged_at").str.to_datetime("%Y-%m-%d %H:%M:%S") + pl.duration(days="wait")
        parts.append(
            found.with_columns(
                pl.lit(version, dtype=pl.Int64).alias("version"),
                (pl.col("value_hkd") * pl.Series(factor)).round(2).alias("value_hkd"),
                lodged.dt.strftime("%Y-%m-%d %H:%M:%S").alias("lodged_at"),
                lodged.dt.date().alias("on"),
            )
        )
    return pl.concat(parts)


def bench_lines(seed: int, rows: int, day: date, chunk: int = 400_000) -> Iterator[pl.DataFrame]:
    """`rows` lines lodged on one day, in chunks, for measurements; traders are a population of 20,000."""
    who = traders(World(seed, make(seed, 20_000), periods(day, 1)))
    weight = who.exports / who.exports.sum()
    made = serial = 0
    while made < rows:
        generator = rng(seed, "bench", made)
        count = chunk // 2
        trader = generator.choice(len(weight), count, p=weight)
        frame = lines(generator, who, trader, generator.random(count) < 0.6, day)
        numbers = frame["declaration_no"].str.slice(8).cast(pl.Int64) + serial
        frame = frame.with_columns(joined("TD", day.strftime("%y%m%d"), digits(numbers, 8)).alias("declaration_no"))
        serial += count
        frame = frame.head(rows - made)
        made += len(frame)
        yield frame
