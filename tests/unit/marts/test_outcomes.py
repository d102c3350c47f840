"""The estimate of outcomes: on panels of known truth its interval is right about as often as it says."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest
from sampan.marts import outcomes

STARTS = (date(2025, 6, 1), date(2025, 9, 1))


def panel(
    seed: int,
    effect: float = 1.0,
    *,
    funded: int = 45,
    unfunded: int = 250,
    ahead: float = 1.0,
    programme: str = "emf",
    price_spread: float = 0.0,
) -> pd.DataFrame:
    """Enterprises of very unequal size whose sales are few, unequal orders; the funded grow by `effect` after, and by
    `ahead` in the second half of the window before. Prices of enterprises differ by `price_spread`, a standard
    deviation of logarithms."""
    generator = np.random.default_rng(seed)
    starts, of_unfunded = len(STARTS), unfunded
    is_funded = np.concatenate([np.ones(funded, bool), np.zeros(of_unfunded * starts, bool)])
    sme = np.concatenate([np.arange(funded), funded + np.tile(np.arange(of_unfunded), starts)])
    start = np.concatenate([generator.integers(0, starts, funded), np.repeat(np.arange(starts), of_unfunded)])
    volume = generator.lognormal(3.5, 0.8, funded + of_unfunded)
    price = np.exp(price_spread * generator.standard_normal(funded + of_unfunded))
    # Another start is another window of the same enterprise: its sales overlap.
    sales = np.zeros((len(sme), 3))
    for position, (months, growth) in enumerate([(6, 1.0), (6, ahead), (12, ahead * effect)]):
        factor = np.where(np.arange(funded + of_unfunded) < funded, growth, 1.0) * (1.05 if position == 2 else 1.0)
        orders = generator.poisson(volume * months / 12 * factor)
        sold = price * np.array([generator.lognormal(9.0, 1.0, count).sum() for count in orders])
        sales[:, position] = sold[sme]
    rows = pd.DataFrame(
        {
            "measure": "exports",
            "start_month": [STARTS[number] for number in start],
            "industry_section": "G",
            "sme_class": "micro",
            "sme_id": [f"sme_{number}" for number in sme],
            "is_funded": is_funded,
            "programme": np.where(is_funded, programme, None),
            "before_early_hkd": sales[:, 0],
            "before_late_hkd": sales[:, 1],
            "after_hkd": sales[:, 2],
        }
    )
    before = rows["before_early_hkd"] + rows["before_late_hkd"]
    rows = rows[before > 0].assign(size_of_sales=np.floor(np.log2(before[before > 0])).astype(int))
    there = rows.groupby(outcomes.STRATUM)["is_funded"]
    rows["is_matched"] = there.transform("size") > there.transform("sum")
    return rows


def estimate(rows: pd.DataFrame, programme: str = "all") -> dict:
    (found,) = [row for row in outcomes.estimates(rows) if (row["measure"], row["programme"]) == ("exports", programme)]
    return found


@pytest.mark.parametrize(
    ("effect", "funded", "price_spread"),
    [(1.0, 45, 0.0), (1.25, 22, 0.0), (1.25, 24, 1.2)],
    ids=["no effect", "an effect", "few enterprises that sell most"],
)
def test_the_interval_covers_the_truth_as_often_as_it_says(effect, funded, price_spread):
    found = [estimate(panel(seed, effect, funded=funded, price_spread=price_spread)) for seed in range(40)]
    found = [row for row in found if row["status"] == "estimated"]
    assert len(found) > 35
    covered = np.mean([row["effect_low"] <= effect <= row["effect_high"] for row in found])
    placebo = np.mean([row["placebo_low"] <= 1 <= row["placebo_high"] for row in found])
    assert covered >= 0.9
    assert placebo >= 0.9
    # The interval does not cover everything, and its middle is at the true effect.
    assert np.median([row["effect_high"] / row["effect_low"] for row in found]) < 2
    assert np.exp(np.mean(np.log([row["effect"] for row in found]))) == pytest.approx(effect, rel=0.06)


def test_an_effect_is_a_ratio_of_ratios_of_weighted_totals():
    rows = panel(1, 1.25)
    funded, unfunded = rows[rows["is_funded"]], rows[~rows["is_funded"]]
    funded = funded[funded["is_matched"]]
    grown = {}
    weighted_before = weighted_after = 0.0
    for stratum, part in funded.groupby(outcomes.STRATUM):
        alike = unfunded.set_index(outcomes.STRATUM).loc[[stratum]]
        weighted_before += len(part) * (alike["before_early_hkd"] + alike["before_late_hkd"]).mean()
        weighted_after += len(part) * alike["after_hkd"].mean()
    grown["funded"] = funded["after_hkd"].sum() / (funded["before_early_hkd"] + funded["before_late_hkd"]).sum()
    grown["unfunded"] = weighted_after / weighted_before
    found = estimate(rows)
    assert found["effect"] == pytest.approx(grown["funded"] / grown["unfunded"])
    assert found["unfunded_after_hkd"] == pytest.approx(weighted_after / len(funded), abs=0.01)
    assert found["funded_count"] == int(rows["is_funded"].sum())
    assert found["matched_funded_count"] == len(funded)
    assert (found["first_start_month"], found["last_start_month"]) == STARTS


def test_the_placebo_shows_trends_that_differed_before():
    found = estimate(panel(2, 1.0, ahead=2.0))
    assert found["placebo_low"] > 1


def test_programmes_are_estimated_apart_and_together():
    rows = pd.concat([panel(3, programme="bud_easy"), panel(4, funded=25, unfunded=0, programme="emf")])
    rows["sme_id"] += rows["programme"].fillna("")
    rows["is_matched"] = True
    found = {row["programme"]: row for row in outcomes.estimates(rows) if row["measure"] == "exports"}
    assert list(found) == list(outcomes.GROUPS)
    counts = {name: row["funded_count"] for name, row in found.items()}
    assert counts == {
        "all": counts["bud_easy"] + counts["emf"],
        "bud": counts["bud_easy"],
        "bud_general": 0,
        "bud_easy": counts["bud_easy"],
        "bud_ecommerce_easy": 0,
        "emf": counts["emf"],
    }
    assert counts["emf"] > 0


@pytest.mark.parametrize(
    "rows",
    [
        panel(5).head(0),
        panel(5, funded=outcomes.MIN_ENTERPRISES - 1),
        panel(5, unfunded=outcomes.MIN_ENTERPRISES - 1),
        panel(5).assign(after_hkd=0.0),
        panel(5).assign(is_matched=False),
    ],
    ids=["no enterprise", "few funded", "few unfunded", "nothing sold after", "no match"],
)
def test_too_few_is_said_and_no_figure_given(rows):
    found = list(outcomes.estimates(rows))
    assert len(found) == 12
    assert {row["status"] for row in found} == {"too_few"}
    assert not any(name in row for row in found for name in ("effect", "placebo", "funded_before_hkd"))
