"""Consents and what is shared under them, as the Commercial Data Interchange reports: no data, or summaries of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np
import polars as pl
from sampan.calendar import business_days

from infra.simulator.draws import dates, digits, joined, number, only, pick, take
from infra.simulator.population import persons
from infra.simulator.world import World, month_after

BANKS, PROVIDERS, AGENCIES = 23, 10, 3
# Kinds of data with the share of consents that name each.
SCOPES = (
    ("trade_declaration", 0.45), ("ecommerce", 0.3), ("supply_chain", 0.15), ("payment", 0.6),
    ("credit_reference", 0.3),
)  # fmt: skip
CHANNELS = ("fps", "card", "wallet", "cross_boundary_wallet")
# Planted: chance that a request is approved, without and with trade declarations among the data used.
APPROVED, APPROVED_WITH_DECLARATIONS = 0.55, 0.7
MISMATCHED, NOT_FOUND = 0.03, 0.02
HISTORY_DAYS = 400
# Consents that an enterprise gives a month, of those that give any.
A_MONTH = 0.07
STEPS = ("granted", "renewed", "revoked", "expired")


def _moments(days: pl.Expr, seconds: str) -> pl.Expr:
    """Days with a second of the day (a column) as text."""
    return (days.cast(pl.Datetime("ms")) + pl.duration(seconds=seconds)).dt.strftime("%Y-%m-%d %H:%M:%S")


def _scopes(generator: np.random.Generator, count: int) -> tuple[pl.Series, dict[str, np.ndarray]]:
    """Kinds of data as one text each, at least one, and which consent names which."""
    named = {name: generator.random(count) < share for name, share in SCOPES}
    named["payment"] |= ~np.any(np.stack(list(named.values())), axis=0)
    texts = [";".join(name for name, _ in SCOPES if named[name][row]) for row in range(count)]
    return pl.Series(texts, dtype=pl.String), named


def consents(world: World) -> pl.DataFrame:
    """One row per consent given until the last month: whose, to which bank, for what, from and until when, and when it was
    revoked or will be, if ever."""
    return world.by_month("consents", world.first - timedelta(days=HISTORY_DAYS), lambda month: _consents(world, month))


def _consents(world: World, month: date) -> pl.DataFrame:
    generator = world.rng("consents", month)
    smes = world.population.smes.filter(pl.col("brn").str.contains("^[0-9]{8}$"))
    active = (smes["exports_a_year"] + smes["imports_a_year"] > 0) | smes["has_shop"]
    # The same half of the active enterprises gives all consents.
    willing = world.rng("consents").random(len(smes)) < 0.5
    owners = smes.filter(active & pl.Series(willing))
    row = np.repeat(np.arange(len(owners)), generator.poisson(A_MONTH, len(owners)))
    count = len(row)
    granted = generator.integers(number(month), number(month_after(month, 1)), count)
    term = generator.choice([90, 180, 365, 730], count, p=[0.2, 0.3, 0.4, 0.1])
    # Consents seldom end at the bank's convenience: part of them are revoked early, part renewed once.
    revoked = granted + (term * generator.uniform(0.1, 0.9, count)).astype(int)
    is_revoked = generator.random(count) < 0.16
    # No consent holds for more than three years.
    renewed = ~is_revoked & (generator.random(count) < 0.2) & (term < 730)
    text, named = _scopes(generator, count)
    seconds = generator.integers(9 * 3600, 18 * 3600, (4, count))
    return pl.DataFrame(
        {
            "sme_no": owners["sme_no"].gather(pl.Series(row)),
            "brn": owners["brn"].gather(pl.Series(row)),
            "consent_id": joined("CS", month.strftime("%y%m"), digits(pl.Series(granted).rank("ordinal"), 6)),
            "bank_id": joined("B", digits(1 + generator.integers(0, BANKS, count), 3)),
            "provider": joined("DP", digits(1 + generator.integers(0, PROVIDERS, count), 2)),
            "scopes": text,
            "shares_declarations": named["trade_declaration"],
            "shares_payments": named["payment"],
            "purpose": pick(generator, ["loan_application", "loan_review", "account_opening"], count, [0.7, 0.2, 0.1]),
            "signatory_name": persons(generator, count),
            "channel": pick(generator, ["bank app", "branch", "web"], count),
            "granted_on": dates(granted),
            "valid_to": dates(granted + term),
            "renewed_on": only(renewed, dates(granted + term - 5)),
            "renewed_to": only(renewed, dates(granted + 2 * term)),
            "revoked_on": only(is_revoked, dates(revoked)),
            "turnover": owners["persons_engaged"].to_numpy()[row] * generator.lognormal(10.6, 0.7, count),
            **{f"{step}_second": seconds[place] for place, step in enumerate(STEPS)},
        }
    )


def live(world: World, day: date) -> pl.DataFrame:
    """The consents that hold on a day."""
    until = pl.when(pl.col("renewed_on") <= day).then(pl.col("renewed_to")).otherwise(pl.col("valid_to"))
    revoked = (pl.col("revoked_on") <= day).fill_null(False)
    return consents(world).filter((pl.col("granted_on") <= day) & (until >= day) & ~revoked)


def cdi_consents(world: World) -> Iterator[tuple[date, pl.DataFrame | None]]:
    """All changes so far on the first business date, then those since; no delivery where there is none."""
    known = consents(world)
    ended = pl.coalesce("renewed_to", "valid_to") + pl.duration(days=1)
    steps = (
        ("granted", pl.col("granted_on"), pl.col("valid_to"), pl.lit(True)),
        ("renewed", pl.col("renewed_on"), pl.col("renewed_to"), pl.col("renewed_on").is_not_null()),
        ("revoked", pl.col("revoked_on"), pl.col("valid_to"), pl.col("revoked_on").is_not_null()),
        ("expired", ended, pl.coalesce("renewed_to", "valid_to"), pl.col("revoked_on").is_null()),
    )
    parts = [
        known.filter(when).with_columns(
            pl.lit(status).alias("status"),
            on.alias("on"),
            until.alias("valid_to"),
            pl.col("granted_on").alias("valid_from"),
            pl.col(f"{status}_second").alias("second"),
        )
        for status, on, until, when in steps
    ]
    names = (
        "consent_id", "status_at", "status", "brn", "bank_id", "provider", "scopes", "purpose", "valid_from",
        "valid_to", "signatory_name", "channel",
    )  # fmt: skip
    yield from _by_period(world, pl.concat(parts), names)


def _by_period(
    world: World, changes: pl.DataFrame, names: tuple[str, ...], at: str = "status_at"
) -> Iterator[tuple[date, pl.DataFrame | None]]:
    """Changes, each with the day `on` and the `second` of it at which it happened, by business date."""
    days = changes["on"].cast(pl.Int32).to_numpy()
    changes = changes.with_columns(_moments(pl.col("on"), "second").alias(at))
    position = world.period_of(days)
    for index, period in enumerate(world.periods):
        today = changes.filter(pl.Series(position == index)).sort(at, names[0], maintain_order=True)
        shown = [pl.col(name).cast(pl.String) if changes[name].dtype == pl.Date else pl.col(name) for name in names]
        yield period.business_date, today.select(shown) if len(today) else None


def requests(world: World) -> pl.DataFrame:
    """One row per financing request, made under a consent for a loan, with what becomes of it and when."""
    first = world.first - timedelta(days=HISTORY_DAYS)
    return world.by_month("financing_requests", first, lambda month: _requests(world, month))


def _given(world: World, month: date) -> pl.DataFrame:
    """The consents that were given in a month."""
    return consents(world).filter(pl.col("granted_on").is_between(month, month_after(month, 1), closed="left"))


def _requests(world: World, month: date) -> pl.DataFrame:
    generator = world.rng("financing-requests", month)
    known = _given(world, month).filter(pl.col("purpose") == "loan_application")
    known = known.filter(pl.Series(generator.random(len(known)) < 0.75))
    count = len(known)
    asked = known["granted_on"].cast(pl.Int32).to_numpy() + generator.integers(0, 6, count)
    days = np.where(known["shares_declarations"].to_numpy(), 4, 9) + generator.poisson(5, count)
    chance = np.where(known["shares_declarations"].to_numpy(), APPROVED_WITH_DECLARATIONS, APPROVED)
    fate, drawn = generator.random(count), generator.random(count)
    outcome = np.select([fate < 0.05, drawn < chance], ["withdrawn", "approved"], "rejected")
    amount = np.round(np.clip(known["turnover"].to_numpy() * generator.uniform(0.5, 3, count), 50_000, 2e7), -3)
    seconds = generator.integers(9 * 3600, 18 * 3600, (2, count))
    return known.select("sme_no", "brn", "bank_id", "consent_id", "scopes").with_columns(
        joined("FR", month.strftime("%y%m"), digits(pl.Series(asked).rank("ordinal"), 6)).alias("request_no"),
        dates(asked).alias("asked_on"),
        dates(asked + days).alias("decided_on"),
        pl.Series(outcome).alias("outcome"),
        pick(generator, ["term_loan", "overdraft", "trade_finance", "invoice_finance"], count).alias("product"),
        pl.Series(amount).alias("amount_requested_hkd"),
        pl.Series(np.round(amount * generator.uniform(0.4, 1.0, count), -3)).alias("approved"),
        persons(generator, count).alias("officer_name"),
        pl.Series(seconds[0]).alias("asked_second"),
        pl.Series(seconds[1]).alias("decided_second"),
    )


def cdi_financing_requests(world: World) -> Iterator[tuple[date, pl.DataFrame | None]]:
    """All changes so far on the first business date, then those since; no delivery where there is none."""
    known = requests(world)
    none = pl.lit(None, dtype=pl.Float64)
    approved = pl.when(pl.col("outcome") == "approved").then("approved").otherwise(none)
    changes = pl.concat(
        [
            known.with_columns(
                pl.lit("submitted").alias("status"),
                pl.col("asked_on").alias("on"),
                none.alias("amount_approved_hkd"),
                pl.col("asked_second").alias("second"),
            ),
            known.with_columns(
                pl.col("outcome").alias("status"),
                pl.col("decided_on").alias("on"),
                approved.alias("amount_approved_hkd"),
                pl.col("decided_second").alias("second"),
            ),
        ]
    ).with_columns(pl.col("scopes").alias("data_used"), pl.lit("SME banking centre").alias("branch"))
    names = (
        "request_no", "status_at", "status", "brn", "bank_id", "consent_id", "product", "data_used",
        "amount_requested_hkd", "amount_approved_hkd", "officer_name", "branch",
    )  # fmt: skip
    yield from _by_period(world, changes, names)


def epayment_summaries(world: World) -> Iterator[tuple[date, pl.DataFrame]]:
    """On the first business day after a month its summaries, those of the month before the world began included."""
    month = month_after(world.first, -1)
    while (delivered := next(business_days(after := month_after(month, 1)))) <= world.last:
        if delivered < world.periods[0].first_day and world.periods[0] != world.schedule[0]:
            month = after
            continue
        shared = live(world, after - timedelta(days=1)).filter("shares_payments")
        generator = world.rng("epayments", month)
        each = 1 + generator.integers(0, 3, len(shared))
        row = np.repeat(np.arange(len(shared)), each)
        channel = np.arange(len(row)) - np.repeat(np.cumsum(each) - each, each)
        count = len(row)
        amount = np.round(shared["turnover"].to_numpy()[row] * generator.uniform(0.1, 0.6, count), 2)
        payments = 1 + (amount / generator.uniform(80, 900, count)).astype(np.int64)
        share = generator.beta(1.2, 40, count)
        frame = pl.DataFrame(
            {
                "month_start": pl.Series([month] * count, dtype=pl.Date),
                "brn": shared["brn"].gather(pl.Series(row)),
                "provider": shared["provider"].gather(pl.Series(row)),
                "consent_id": shared["consent_id"].gather(pl.Series(row)),
                "channel": take(CHANNELS, channel),
                "payments": payments,
                "amount_hkd": amount,
                "refunds": (payments * share).astype(np.int64),
                "refund_hkd": np.floor(amount * share * 100) / 100,
            }
        ).with_columns(joined("Provider ", pl.Series(shared["provider"].gather(pl.Series(row)))).alias("provider_name"))
        # Two consents to the same provider share one summary.
        frame = frame.unique(["brn", "provider", "channel"], keep="first", maintain_order=True)
        if len(frame):
            yield delivered, frame
        month = after


def credit_reference_checks(world: World) -> Iterator[tuple[date, pl.DataFrame | None]]:
    """Checks of the year before on the first business date, then those since; reports are hashes and nothing else."""
    first = world.first - timedelta(days=HISTORY_DAYS)
    checks = world.by_month("credit_checks", first, lambda month: _checks(world, month))
    names = (
        "check_no", "checked_at", "direction", "bank_id", "agency", "brn", "consent_id", "report_hash", "issued_hash",
        "result", "validation_platform",
    )  # fmt: skip
    yield from _by_period(world, checks, names, at="checked_at")


def _checks(world: World, month: date) -> pl.DataFrame:
    """The checks under the consents that were given in a month."""
    generator = world.rng("credit-checks", month)
    known = _given(world, month).filter(pl.col("scopes").str.contains("credit_reference"))
    known = known[np.repeat(np.arange(len(known)), 1 + generator.poisson(1.2, len(known)))]
    count = len(known)
    granted = known["granted_on"].cast(pl.Int32).to_numpy()
    term = known["valid_to"].cast(pl.Int32).to_numpy() - granted
    on = granted + (term * generator.random(count)).astype(int)
    fate = generator.random(count)
    presented = [hashlib.sha256(f"report {world.seed} {month} {row}".encode()).hexdigest() for row in range(count)]
    issued = [hashlib.sha256(f"other {digest}".encode()).hexdigest() for digest in presented]
    missing, wrong = fate < NOT_FOUND, fate >= 1 - MISMATCHED
    return known.select("brn", "bank_id", "consent_id").with_columns(
        joined("CB", month.strftime("%y%m"), digits(pl.Series(on).rank("ordinal"), 6)).alias("check_no"),
        pick(generator, ["hk_to_mainland", "mainland_to_hk"], count, [0.7, 0.3]).alias("direction"),
        joined("CRA", digits(1 + generator.integers(0, AGENCIES, count), 2)).alias("agency"),
        pl.Series(presented).alias("report_hash"),
        only(~missing, only(wrong, pl.Series(issued), pl.Series(presented))).alias("issued_hash"),
        pl.Series(np.select([missing, wrong], ["not_found", "mismatch"], "match")).alias("result"),
        pl.lit("Shenzhen-Hong Kong data validation platform").alias("validation_platform"),
        dates(on).alias("on"),
        pl.Series(generator.integers(9 * 3600, 18 * 3600, count)).alias("second"),
    )
