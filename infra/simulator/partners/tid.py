"""Funding as the Trade and Industry Department reports it: applications with their changes of status, and payments."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import numpy as np
import polars as pl

from infra.simulator import vocabulary as words
from infra.simulator.draws import dates, digits, joined, number, only, pick, take
from infra.simulator.population import OPENING, persons, phones
from infra.simulator.shops import shops
from infra.simulator.world import World, month_after

TIGHTER_RULES = number(date(2025, 3, 14))
# Of applications received since then: what is in force of an enterprise is at most so much with them.
IN_FORCE_CAP = 800_000
LEAST_GRANTED = 1_000
EASY_FROM, ECOMMERCE_FROM, EMF_UNTIL = number(date(2023, 6, 1)), number(date(2024, 7, 15)), number(date(2026, 6, 30))
# Applications that an applicant makes a month at the opening, and how many more of them a month each year brings.
A_MONTH, GROWTH_A_YEAR = 0.027, 0.008
# Who heard of the programmes in the last months applies so many times as often.
NEWS, NEWS_MONTHS = 5, 6
# Planted: so many times as many apply in the months before the rules get tighter.
RUSH, RUSH_MONTHS = 6, (date(2025, 1, 1), date(2025, 2, 1))
# Application numbers of a month: six digits leave so many to each.
NUMBERS_OF_A_MONTH = 80_000
PROGRAMMES = ("bud_general", "bud_easy", "bud_ecommerce_easy", "emf")
ASEAN = ("TH", "MY", "SG", "ID", "VN", "PH")
SALES_PLATFORMS = ("taobao", "tmall", "jd", "pinduoduo", "douyin", "xiaohongshu")


def applications(world: World) -> pl.DataFrame:
    """One row per application received until the last month, with every date of its life (null where it never comes to
    that): months of receipt one after the other, in each as many as its month brings."""
    if "applications_within_cap" not in world.kept:
        received = world.by_month("applications", OPENING, lambda month: _applications(world, month))
        world.kept["applications_within_cap"] = _within_cap(received)
    found: pl.DataFrame = world.kept["applications_within_cap"]
    return found


def _within_cap(received: pl.DataFrame) -> pl.DataFrame:
    """Applications as they are decided under the cap on what is in force: less is approved, or nothing.

    Each is compared with those received before it, wherever both are in force: what came later does not change it.
    """
    frame = received.with_row_index("row")
    of_fund = (pl.col("outcome") == "approved") & (pl.col("programme") != "emf")
    several = frame.filter(of_fund).filter(pl.len().over("brn") > 1, pl.col("tighter_rules").any().over("brn"))
    approved, rejected = {}, set()
    for (_,), own in several.sort("received_on", "row").group_by("brn", maintain_order=True):
        before: list[tuple[date, date, float]] = []
        columns = ("row", "tighter_rules", "decided_on", "closed_on", "amount_approved_hkd")
        for row, is_capped, first, last, amount in own.select(columns).iter_rows():
            beside = [other for other in before if other[0] <= last and first <= other[1]]
            # What is in force is most on the day on which one of them begins.
            starts = [first, *(begin for begin, _, _ in beside if begin > first)]
            most = max(sum(value for begin, end, value in beside if begin <= day <= end) for day in starts)
            granted = min(amount, IN_FORCE_CAP - most) if is_capped else amount
            if granted < LEAST_GRANTED:
                rejected.add(row)
                continue
            before.append((first, last, granted))
            if granted < amount:
                approved[row] = round(granted, 2)
    changed = pl.DataFrame(
        {"row": list(approved), "less_hkd": list(approved.values())}, schema={"row": pl.UInt32, "less_hkd": pl.Float64}
    )
    is_rejected = pl.col("row").is_in(list(rejected))
    frame = frame.join(changed, on="row", how="left", maintain_order="left").with_columns(
        pl.coalesce("less_hkd", "amount_approved_hkd").alias("amount_approved_hkd")
    )
    nothing = ("amount_approved_hkd", "project_start_on", "project_end_on", "closed_on")
    return frame.with_columns(
        pl.when(is_rejected).then(pl.lit("rejected")).otherwise(pl.col("outcome")).alias("outcome"),
        (pl.col("terminated") & ~is_rejected).alias("terminated"),
        *(pl.when(~is_rejected).then(pl.col(name)).alias(name) for name in nothing),
    ).drop("row", "less_hkd")


def _applications(world: World, month: date) -> pl.DataFrame:
    generator = world.rng("applications", month)
    applicants = world.population.smes.filter("is_applicant")
    years = (month - OPENING.replace(day=1)).days / 365
    rate = (A_MONTH + GROWTH_A_YEAR * years) * (RUSH if month in RUSH_MONTHS else 1)
    heard = applicants["applies_from"].to_numpy().astype("datetime64[D]").astype(int)
    news = (heard > number(OPENING)) & (heard > number(month_after(month, -NEWS_MONTHS)))
    rates = rate * np.where(heard < number(month_after(month, 1)), np.where(news, NEWS, 1), 0)
    owner = np.repeat(np.arange(len(applicants)), generator.poisson(rates))
    count = len(owner)
    opening, end = number(max(month, OPENING)), number(month_after(month, 1))
    received = generator.integers(opening, end, count)
    # Enterprises that apply often ask for less, so that what is in force seldom passes the ceiling.
    each = world.rng("applicants").integers(1, 4, len(applicants))
    shop = applicants["has_shop"].to_numpy()[owner]
    wish = generator.random(count)
    programme = np.select([shop & (wish < 0.55), wish < 0.40, wish < 0.75], [2, 1, 0], 3)
    programme = np.where((programme == 2) & (received < ECOMMERCE_FROM), 0, programme)
    programme = np.where((programme == 1) & (received < EASY_FROM), 0, programme)
    programme = np.where((programme == 3) & (received > EMF_UNTIL), 1, programme)
    tight = received >= TIGHTER_RULES
    cap = np.select([programme == 0, programme == 2], [np.where(tight, 800_000, 1_000_000)] * 2, 100_000)
    # Enterprises with several applications ask for less, so that what is in force seldom passes the ceiling.
    applied = np.round(cap * generator.beta(2.2, 1.6, count) / np.where(tight, each[owner], 1), 0) + 1_000
    applied = np.minimum(applied, cap)
    outcome = generator.choice(["approved", "rejected", "withdrawn"], count, p=[0.46, 0.36, 0.18])
    decided = received + np.clip(generator.normal(np.where(programme == 0, 75, 40), 18), 8, 200).astype(int)
    approved = outcome == "approved"
    granted = np.round(applied * generator.uniform(0.7, 1.0, count), 2)
    started = decided + generator.integers(7, 45, count)
    length = np.select(
        [programme == 0, programme == 3], [generator.integers(240, 730, count), 30], generator.integers(90, 365, count)
    )
    ended = started + length
    closed = ended + generator.integers(20, 90, count)
    stopped = approved & (generator.random(count) < 0.04)
    closed = np.where(stopped, started + length // 2, closed)
    ecommerce = programme == 2
    market = only(
        ecommerce,
        only(generator.random(count) < 0.85, pl.Series(["CN"] * count), pick(generator, ASEAN, count)),
        take([entry[1] for entry in words.MARKETS], applicants["market_1"].to_numpy()[owner]),
    )
    # Who has a shop that opens with a grant asks for one on its platform.
    to_open = shops(world).filter("opens_by_grant").unique("brn", keep="first", maintain_order=True)
    to_open = applicants.join(to_open, on="brn", how="left", maintain_order="left")["platform"].gather(pl.Series(owner))
    # Numbers run on through the month, and the next one has its own.
    if count > NUMBERS_OF_A_MONTH:
        raise ValueError(
            f"{count} applications in {month:%Y-%m}: more than the {NUMBERS_OF_A_MONTH} numbers of a month"
        )
    serial = pl.Series(received).rank("ordinal") + (month.month - 1) * NUMBERS_OF_A_MONTH
    seconds = generator.integers(9 * 3600, 18 * 3600, (4, count))
    wait, share = generator.integers(14, 45, count), np.round(generator.uniform(0.5, 0.75, count), 2)
    frame = pl.DataFrame(
        {
            "application_no": joined(
                take(["GEN", "ESY", "ECE", "EMF"], programme),
                "-",
                dates(received).dt.year().cast(pl.String),
                "-",
                digits(serial, 6),
            ),
            "programme": take(PROGRAMMES, programme),
            "brn": applicants["brn"].gather(pl.Series(owner)),
            "applicant_name": applicants["name_en"].fill_null(applicants["name_zh"]).gather(pl.Series(owner)),
            "received_on": dates(received),
            "market": market,
            "purpose": only(
                ecommerce,
                pl.Series(["online_sales"] * count),
                only(
                    programme == 3,
                    pl.Series(["exhibition"] * count),
                    pick(generator, ["branding", "upgrading", "domestic_sales"], count),
                ),
            ),
            "platform": only(ecommerce, only(to_open.is_not_null(), to_open, pick(generator, SALES_PLATFORMS, count))),
            "outcome": outcome,
            "amount_applied_hkd": applied,
            "amount_approved_hkd": only(approved, pl.Series(granted)),
            "decided_on": dates(decided),
            "project_start_on": only(approved, dates(started)),
            "project_end_on": only(approved, dates(ended)),
            "closed_on": only(approved, dates(closed)),
            "terminated": stopped,
            "tighter_rules": tight,
            "contact_name": persons(generator, count),
            "contact_phone": phones(generator, count),
            **{f"second_{step}": seconds[step] for step in range(4)},
            "wait": wait,
            "initial_share": share,
            "payee_name": persons(generator, count),
            "payee_account_no": joined("000-", digits(generator.integers(0, 10**9, count), 9)),
        }
    )
    return frame.with_columns(
        contact_email=joined("contact", frame["application_no"].str.to_lowercase(), "@applicant.example")
    )


def _events(world: World) -> pl.DataFrame:
    """One row per change of status, with the second of the day at which it happened."""
    known = applications(world)
    steps = (
        ("received", "received_on", pl.lit(True)),
        (None, "decided_on", pl.lit(True)),
        ("in_progress", "project_start_on", pl.col("outcome") == "approved"),
        (None, "closed_on", pl.col("outcome") == "approved"),
    )
    parts = []
    for number_of_step, (status, column, condition) in enumerate(steps):
        after = pl.when("terminated").then(pl.lit("terminated")).otherwise(pl.lit("completed"))
        name = pl.lit(status) if status else pl.col("outcome") if column == "decided_on" else after
        parts.append(
            known.filter(condition).with_columns(
                name.alias("status"),
                pl.col(column).alias("on"),
                pl.lit(number_of_step).alias("step"),
                pl.col(f"second_{number_of_step}").alias("second"),
            )
        )
    events = pl.concat(parts).sort("on", "application_no", "step")
    granted = pl.col("status").is_in(["approved", "in_progress", "completed", "terminated"])
    status_at = (pl.col("on").cast(pl.Datetime("ms")) + pl.duration(seconds="second")).dt.strftime(
        "%Y-%m-%dT%H:%M:%S+08:00"
    )
    return events.with_columns(
        status_at.alias("status_at"),
        *(
            pl.when(granted).then(pl.col(name)).alias(name)
            for name in ("amount_approved_hkd", "project_start_on", "project_end_on")
        ),
    )


def funding_applications(world: World) -> Iterator[tuple[date, pl.DataFrame]]:
    """On the first business date all changes of status since 2023, then those of each day."""
    names = (
        "application_no",
        "status",
        "status_at",
        "programme",
        "received_on",
        "brn",
        "applicant_name",
        "market",
        "purpose",
        "platform",
        "amount_applied_hkd",
        "amount_approved_hkd",
        "project_start_on",
        "project_end_on",
        "contact_name",
        "contact_phone",
        "contact_email",
    )
    events = _events(world)
    position = world.period_of(events["on"].cast(pl.Int32).to_numpy())
    for index, period in enumerate(world.periods):
        yield period.business_date, events.filter(pl.Series(position == index)).select(names)


def payments(world: World) -> pl.DataFrame:
    """One row per payment, made or yet to be made, of the applications received until the last month."""
    if "payments" in world.kept:
        return world.kept["payments"]
    known = applications(world).filter(pl.col("outcome") == "approved")
    share = pl.when("tighter_rules").then(0.20).otherwise("initial_share")
    emf, long = pl.col("programme") == "emf", pl.col("programme") == "bud_general"
    first = known.with_columns((pl.col("amount_approved_hkd") * share).round(2).alias("initial"))
    first = first.with_columns(
        pl.when(emf).then(0.0).otherwise("initial").alias("initial"),
        pl.when(long).then((pl.col("amount_approved_hkd") * 0.2).round(2)).otherwise(0.0).alias("interim"),
    )
    final = (pl.col("amount_approved_hkd") - pl.col("initial") - pl.col("interim")).round(2)
    middle = pl.col("project_start_on") + (pl.col("project_end_on") - pl.col("project_start_on")) / 2

    def instalment(name: str, amount: pl.Expr, on: pl.Expr) -> pl.DataFrame:
        return first.with_columns(pl.lit(name).alias("instalment"), amount.alias("amount_hkd"), on.alias("paid_on"))

    last = instalment("final", final, pl.col("closed_on") + pl.duration(days=30)).filter(~pl.col("terminated"))
    parts = [
        instalment("initial", pl.col("initial"), pl.col("decided_on") + pl.duration(days="wait")),
        instalment("interim", pl.col("interim"), middle),
        last,
    ]
    paid = pl.concat(parts).filter(pl.col("amount_hkd") > 0)
    paid = paid.filter(~pl.col("terminated") | (pl.col("paid_on") <= pl.col("closed_on")))
    # Numbered within the month of payment; two digits of it go before the serial number.
    month, serial = pl.col("paid_on").dt.month(), pl.int_range(pl.len()).over(pl.col("paid_on").dt.truncate("1mo"))
    numbered = (month * 100_000 + serial + 1).cast(pl.String).str.zfill(7)
    world.kept["payments"] = paid.sort("received_on", "application_no", "instalment").with_columns(
        pl.concat_str(pl.lit("PAY-"), pl.col("paid_on").dt.year().cast(pl.String), pl.lit("-"), numbered).alias(
            "payment_no"
        )
    )
    return world.kept["payments"]


def funding_payments(world: World) -> Iterator[tuple[date, pl.DataFrame | None]]:
    """On the first business date all payments since 2023, then those of each day; no delivery without a payment."""
    names = (
        "payment_no",
        "application_no",
        "programme",
        "brn",
        "instalment",
        "amount_hkd",
        "paid_on",
        "payee_name",
        "payee_account_no",
    )
    paid = payments(world).sort("paid_on", "application_no", "instalment")
    position = world.period_of(paid["paid_on"].cast(pl.Int32).to_numpy())
    for index, period in enumerate(world.periods):
        chosen = paid.filter(pl.Series(position == index)).select(names)
        yield period.business_date, chosen if len(chosen) else None
