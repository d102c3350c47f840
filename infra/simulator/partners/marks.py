"""Quality marks as their issuers register them: part of what is claimed at a festival has ended or never existed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import numpy as np
import polars as pl

from infra.simulator import names as coined
from infra.simulator.draws import dates, digits, joined, number, only, pick, take
from infra.simulator.shops import shops
from infra.simulator.world import World

# Scheme, issuer, scope, years of validity (None: no end), share of the certificates that no enterprise claims.
SCHEMES = (
    ("QMARK-P", "FHKI", "product", 2, 0.25),
    ("QMARK-S", "FHKI", "company", 2, 0.2),
    ("TOPBRAND", "CMA", "brand", 3, 0.1),
    ("QTS", "HKTB", "shop", 1, 0.2),
    ("QES", "HKRMA", "shop", 1, 0.15),
    ("NFP", "IPD", "company", None, 0.1),
)
# Planted: of the marks that enterprises claim, the share whose certificate has ended and the share without a certificate.
CLAIMED_EXPIRED, CLAIMED_UNKNOWN = 0.15, 0.08
KNOWS_BRN = 0.7
# Share of the certificates that are renewed, under the same number, each time that they end.
RENEWS = 0.85
# Share of the valid certificates that are awarded within 900 days of the first day of the world.
AWARDED_LATER = 0.85
ORDER = (
    "scheme", "certificate_no", "status_at", "status", "issuer", "scope", "subject", "platform", "store_id",
    "holder_brn", "holder_name", "valid_from", "valid_to",
)  # fmt: skip


def certificates(world: World) -> pl.DataFrame:
    """One row per certificate, or claim of one, with its truth: `exists`, its first term, how often that was renewed.

    What is renewed is renewed each time: as many terms are listed as begin until the last day.
    """
    if "certificates" in world.kept:
        return world.kept["certificates"]
    generator = world.rng("marks")
    smes = world.population.smes.filter(pl.col("brn").str.contains("^[0-9]{8}$"))
    claimed = smes.filter(pl.col("mark_code").is_not_null()).unique("mark_code", keep="first", maintain_order=True)
    quiet = smes.filter(pl.col("mark_code").is_null())
    quiet = quiet[np.sort(generator.choice(len(quiet), max(1, len(quiet) // 12), replace=False))]
    names, _, _, _, shares = zip(*SCHEMES, strict=True)
    # Numbers that claims do not use.
    codes = joined(pick(generator, names, len(quiet), shares), "-", digits(100_000 - 1 - np.arange(len(quiet)), 5))
    held = pl.concat([claimed, quiet.with_columns(codes.alias("mark_code"))]).unique(
        "mark_code", keep="first", maintain_order=True
    )
    count = len(held)
    scheme = held["mark_code"].str.replace("-[0-9]{5}$", "")
    kind = np.array([names.index(name) for name in scheme])
    is_claim = np.arange(count) < len(claimed)
    fate = np.where(is_claim, generator.random(count), 1.0)
    ended = (fate >= CLAIMED_UNKNOWN) & (fate < CLAIMED_UNKNOWN + CLAIMED_EXPIRED)
    ended |= ~is_claim & (generator.random(count) < 0.1)
    years = np.array([entry[3] or 0 for entry in SCHEMES])[kind]
    # What is valid ends some time after the first day of the world, what has ended did so before it.
    left = np.where(ended, -generator.integers(5, 400, count), generator.integers(3, 360, count))
    until = number(world.first) + left
    since = np.where(years > 0, until - 365 * np.maximum(years, 1) + 1, number(world.first) - 900 + left)
    # Some were awarded for the first time after the first day of the world.
    awards = world.rng("awards")
    later = ~ended & (awards.random(count) < AWARDED_LATER)
    moved = number(world.first) + awards.integers(30, 900, count) - since
    since, until = np.where(later, since + moved, since), np.where(later, until + moved, until)
    stores = (
        shops(world)
        .unique("sme_no", keep="first", maintain_order=True)
        .select("sme_no", "platform", "store_id", "shop_name")
    )
    held = held.join(stores, on="sme_no", how="left", maintain_order="left")
    scope = take([entry[2] for entry in SCHEMES], kind)
    online = (scope == "shop") & held["store_id"].is_not_null()
    subject = pl.select(
        pl.when(pl.lit(scope == "brand"))
        .then(pl.lit(held["brand_en"]))
        .when(pl.lit(scope == "product"))
        .then(pl.lit(joined(held["brand_en"], " ", take(["Classic", "Plus", "Series A"], kind % 3))))
        .when(pl.lit(online))
        .then(pl.lit(held["shop_name"]))
        .when(pl.lit(scope == "shop"))
        .then(pl.lit(joined(held["brand_en"], " ", held["district"])))
        .alias("subject")
    )["subject"]
    stopped = ~ended & (years > 0) & (generator.random(count) < 0.06)
    renews = ~ended & ~stopped & (years > 0) & (world.rng("renewals").random(count) < RENEWS)
    more = np.where(renews, -(-np.maximum(number(world.last) + 1 - until, 0) // np.maximum(365 * years, 1)), 0)
    world.kept["certificates"] = pl.DataFrame(
        {
            "sme_no": held["sme_no"],
            "brn": held["brn"],
            "scheme": scheme,
            "certificate_no": held["mark_code"],
            "issuer": take([entry[1] for entry in SCHEMES], kind),
            "scope": scope,
            "subject": subject,
            "platform": only(online, held["platform"]),
            "store_id": only(online, held["store_id"]),
            "holder_brn": only(generator.random(count) < KNOWS_BRN, held["brn"]),
            "holder_name": coined.in_forms(generator, held),
            "valid_from": dates(since),
            "valid_to": only(years > 0, dates(until)),
            "days": 365 * years,
            "renewals": more,
            "exists": fate >= CLAIMED_UNKNOWN,
            "is_claimed": is_claim,
            "stopped_on": only(stopped, dates(number(world.first) + generator.integers(-30, 60, count))),
            "second": generator.integers(9 * 3600, 18 * 3600, count),
        }
    )
    return world.kept["certificates"]


def terms(world: World) -> pl.DataFrame:
    """One row per certificate that exists and term of it, the first one and each renewal, with the days of the term."""
    known = certificates(world).filter("exists").with_columns(pl.int_ranges(0, pl.col("renewals") + 1).alias("term"))
    known = known.explode("term")
    later = pl.duration(days=pl.col("term") * pl.col("days"))
    return known.with_columns(pl.col("valid_from") + later, pl.col("valid_to") + later)


def marked(world: World, sme_no: pl.Series, day: date) -> np.ndarray:
    """Whether each enterprise holds a valid certificate of any scope on a day."""
    if "mark_terms" not in world.kept:
        held = terms(world).with_columns(
            pl.min_horizontal("valid_to", pl.col("stopped_on") - pl.duration(days=1)).alias("valid_to")
        )
        world.kept["mark_terms"] = held.select("sme_no", "valid_from", "valid_to")
    valid = pl.col("valid_from") <= day, (pl.col("valid_to") >= day).fill_null(True)
    return sme_no.is_in(world.kept["mark_terms"].filter(*valid)["sme_no"].implode()).to_numpy()


def quality_marks(world: World) -> Iterator[tuple[date, pl.DataFrame | None]]:
    """The whole register on the first business date, then every change of status; no delivery where there is none."""
    known = terms(world)
    # A term is entered on its first day; the last one ends on the day after, and may be stopped before.
    last = pl.col("term") == pl.col("renewals")
    steps = (
        ("valid", pl.col("valid_from"), pl.lit(True)),
        ("withdrawn", pl.col("stopped_on"), pl.col("stopped_on").is_between("valid_from", "valid_to")),
        ("expired", pl.col("valid_to") + pl.duration(days=1), last & pl.col("stopped_on").is_null()),
    )
    changes = pl.concat(
        [
            known.filter(when & on.is_not_null()).with_columns(pl.lit(status).alias("status"), on.alias("on"))
            for status, on, when in steps
        ]
    )
    at = pl.col("on").cast(pl.Datetime("ms")) + pl.duration(seconds="second")
    changes = changes.with_columns(at.dt.strftime("%Y-%m-%d %H:%M:%S").alias("status_at")).sort(
        "on", "second", "certificate_no"
    )
    position = world.period_of(changes["on"].cast(pl.Int32).to_numpy())
    for index, period in enumerate(world.periods):
        today = changes.filter(pl.Series(position == index))
        yield period.business_date, today.select(ORDER) if len(today) else None
