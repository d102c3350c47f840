"""The estimator of what festivals, marks and live streams did, on made-up panels with a known effect."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sampan.marts.shop_effects import PANEL, _estimated, comparable, estimates, relative_change


def panel(seed: int, treated: int, others: int, effect: float, season: float = 1.3) -> pd.DataFrame:
    """Shops of two platforms in two categories. Shops that take part are twice as large; sales of a shop keep together."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(treated + others):
        is_treated = number < treated
        size = generator.lognormal(6, 0.8) * (2 if is_treated else 1)
        drift = generator.lognormal(0, 0.3)
        for category in ("food", "household"):
            market = season * (1.2 if category == "food" else 1)
            factor = market * drift * (effect if is_treated else 1)
            before, after = (float(value) for value in size * np.array([1, factor]) * generator.lognormal(0, 0.25, 2))
            rows.append(
                ["e", "paid", "during", f"s{number}", f"s{number}", f"p{number % 2}:{category}", is_treated,
                 "all" if is_treated else "", before * 28, after * 31, 28, 31]
            )  # fmt: skip
    return pd.DataFrame(rows, columns=PANEL)


def test_two_shops_before_and_after_give_the_ratio_worked_by_hand():
    """Those that took part went from 100 to 300 and from 200 to 600, the others from 100 to 150: 3 / 1.5 = 2."""
    rows = pd.DataFrame(
        [
            ["e", "paid", "during", name, name, "jd:food", name[0] == "t", "", before, after, 1.0, 1.0]
            for name, before, after in [
                *((f"t{n}", 100.0 * (1 + n % 2), 300.0 * (1 + n % 2)) for n in range(8)),
                *((f"o{n}", 100.0, 150.0) for n in range(8)),
            ]
        ],
        columns=PANEL,
    )
    effect = relative_change(rows)
    assert effect is not None
    assert effect.value == pytest.approx(2, rel=1e-6)
    # With days of their own: 31 after and 28 before on both sides change nothing.
    assert relative_change(rows.assign(before_base=28.0, after_base=31.0)).value == pytest.approx(2, rel=1e-6)


def test_a_season_that_all_shops_have_is_no_effect_and_a_planted_one_is_found():
    none = _estimated(panel(1, 60, 60, 1.0))
    planted = _estimated(panel(2, 60, 60, 1.5))
    assert none["ratio_low"] < 1 < none["ratio_high"]
    assert none["own_change"] > 1.2, "before and after alone would call the season an uplift"
    assert planted["ratio_low"] > 1
    assert planted["ratio"] == pytest.approx(1.5, rel=0.2)


def test_the_interval_covers_the_truth_in_most_runs():
    """95 in 100 are meant; 82 is 6 standard errors of a share of 100 runs (2.2) below that."""
    runs = [relative_change(comparable(panel(seed, 40, 40, 1.2))) for seed in range(100, 200)]
    covered = sum(run.low <= 1.2 <= run.high for run in runs)
    assert 82 <= covered <= 100
    assert np.mean([run.value for run in runs]) == pytest.approx(1.2, rel=0.03)


def test_too_few_enterprises_show_no_figure():
    nine = _estimated(panel(3, 9, 60, 1.5))
    ten = _estimated(panel(3, 10, 60, 1.5))
    assert (nine["status"], "ratio" in nine, nine["compared_shop_count"]) == ("too_few", False, 9)
    assert ten["status"] == "estimated"
    # One enterprise with nearly all of it makes no sample either.
    giant = panel(4, 20, 20, 1.0)
    giant.loc[giant["cluster_key"] == "s0", ["before_value", "after_value"]] *= 1e6
    assert _estimated(giant)["status"] == "too_few"


def test_a_stratum_without_others_is_left_out_and_said_so():
    rows = panel(5, 30, 30, 1.0)
    rows.loc[rows["is_treated"] & (rows["stratum"] == "p0:food"), "stratum"] = "douyin:food"
    found = _estimated(rows)
    assert "douyin:food" not in set(comparable(rows)["stratum"])
    assert found["shop_count"] == found["compared_shop_count"] == 30, "each shop sells household goods too"
    alone = rows[rows["is_treated"]].assign(stratum="douyin:food")
    assert _estimated(pd.concat([alone, rows[~rows["is_treated"]]]))["status"] == "too_few"


def test_without_others_a_change_is_against_what_was_expected():
    """Ten shops refunded 10 of 10 expected before, and 5 of 10 expected after: 0.5."""
    rows = pd.DataFrame(
        [
            ["won", "refund_rate", "after", f"s{n}", f"s{n}", "jd:food", True, "any", 10.0, 5.0, 10.0, 10.0]
            for n in range(10)
        ],
        columns=PANEL,
    )
    (found,) = estimates(rows)
    assert (found["audience"], found["status"]) == ("any", "estimated")
    assert found["ratio"] == pytest.approx(0.5)
    assert found["others_change"] is None


def test_audiences_share_the_others():
    rows = panel(6, 40, 40, 1.4)
    rows.loc[rows["is_treated"], "audiences"] = ["all;new" if n < 40 else "all;repeat" for n in range(80)]
    found = {row["audience"]: row for row in estimates(rows)}
    assert set(found) == {"all", "new", "repeat"}
    assert [found[name]["compared_shop_count"] for name in ("all", "new", "repeat")] == [40, 20, 20]
    assert {row["other_shop_count"] for row in found.values()} == {40}


def live_panel(seed: int, shops: int, effect: float) -> pd.DataFrame:
    """A year of shops of different sizes, with seasons of their own: orders on days with a live stream and on others."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(shops):
        orders_a_day = generator.lognormal(0.3, 0.8)
        for _ in range(12):
            live = int(generator.poisson(2.3))
            season = orders_a_day * generator.lognormal(0, 0.4)
            # An order's value varies about as much as its mean.
            before, after = (
                float(generator.exponential(100, generator.poisson(season * days * factor)).sum())
                for days, factor in ((30 - live, 1), (live, effect))
            )
            rows.append(
                ["last_12_months", "paid", "live", f"s{number}", f"s{number}", "jd", True, "all;jd", before, after,
                 30 - live, live]
            )  # fmt: skip
    return pd.DataFrame(rows, columns=PANEL)


def test_the_interval_of_live_days_within_shops_covers_the_truth_in_most_runs():
    """95 in 100 are meant; 82 is 6 standard errors of a share of 100 runs (2.2) below that."""
    runs = [relative_change(comparable(live_panel(seed, 40, 1.3))) for seed in range(300, 400)]
    covered = sum(run.low <= 1.3 <= run.high for run in runs)
    assert 82 <= covered <= 100
    assert np.mean([run.value for run in runs]) == pytest.approx(1.3, rel=0.02)
