"""The estimate of outcomes: what it is, that its interval holds the truth as often as it says, and when it says nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date
from itertools import product

import numpy as np
import pandas as pd
import pytest
from sampan.marts import outcomes
from sampan.marts.outcomes import NEVER, Funded, Sales
from scipy import stats

from tests.bench.outcome_coverage import WINDOW, Kind, panel, run

SMALL = Kind(60, 300)


def sales(monthly: list[list[float]], applied: list[int], **changed) -> Sales:
    """Sales of enterprises that always existed, in one stratum."""
    count, months = len(monthly), len(monthly[0])
    given = Sales(
        date(2024, 1, 1),
        np.array(monthly, float),
        np.array(applied),
        np.full(count, False),
        np.full(count, -NEVER),
        np.full(count, NEVER),
        [np.zeros((count, months), int)] * 2,
    )
    return replace(given, **changed)


def funded(position: list[int], applied: list[int], start: list[int], programme: str = "emf") -> Funded:
    count = len(position)
    return Funded(
        np.array(position), np.array(applied), np.array(start), np.full(count, programme), np.full(count, 1000.0),
        np.full(count, False),
    )  # fmt: skip


def rows(given: Sales, of_funded: Funded) -> dict[tuple[str, int], dict]:
    """Rows of exports by group and window; all windows have the same funded."""
    found, _ = outcomes.estimates({"exports": (given, dict.fromkeys(outcomes.WINDOWS, of_funded))})
    return {(row["programme"], row["window_months"]): row for row in found if row["measure"] == "exports"}


def by_hand() -> tuple[Sales, Funded]:
    """Ten unfunded that sell 100 a month, then 110, 130, ...; two funded that sell 300 and 500, then twice as much.

    Months 0 to 5 are before, 6 and 7 wait (the funded sell 9,999), 8 to 13 are after.
    """
    unfunded = [[100.0] * 8 + [growth] * 6 for growth in (110, 130) * 5]
    of_funded = [[size] * 6 + [9999.0] * 2 + [2 * size] * 6 for size in (300.0, 500.0)]
    return sales(unfunded + of_funded, [NEVER] * 10 + [6, 6]), funded([10, 11], [6, 6], [7, 7])


def test_effect_is_what_was_sold_over_what_the_growth_of_the_unfunded_would_have_made_of_sales_before():
    # Growth of the unfunded: 5 x 6 x (110 + 130) / (10 x 6 x 100) = 1.2. Expected: 6 x (300 + 500) x 1.2 = 5,760.
    # Sold: 6 x (600 + 1,000) = 9,600. What was sold while the application waited is in neither.
    sums = outcomes.compare(*by_hand(), 6)["emf"]
    assert (sums.sold[0], sums.expected[0]) == pytest.approx((9600, 5760))
    assert (sums.before, sums.unfunded_before, sums.unfunded_after) == pytest.approx((4800, 1200, 1440))
    assert (sums.funded[0], sums.unfunded.sum(), sums.paid) == (2, 10, 2000)


def test_left_out_sums_are_those_of_the_panel_without_the_enterprise():
    given, of_funded = by_hand()
    given.monthly[:] *= np.random.default_rng(1).lognormal(0, 0.3, given.monthly.shape)
    # One more of each, so that without one there are enough.
    given = sales([*given.monthly.tolist()[:10], [90.0] * 14, *given.monthly.tolist()[10:]], [NEVER] * 11 + [6, 6])
    of_funded = replace(of_funded, position=np.array([11, 12]))
    whole = outcomes.compare(given, of_funded, 6)["emf"]
    for left_out in range(13):
        kept = np.delete(np.arange(13), left_out)
        part = sales(given.monthly[kept].tolist(), given.applied[kept].tolist())
        position = np.flatnonzero(part.applied == 6)
        without = outcomes.compare(part, funded(position.tolist(), [6] * len(position), [7] * len(position)), 6)["emf"]
        assert whole.sold - whole.without_sold[left_out] == pytest.approx(without.sold)
        assert whole.expected - whole.without_expected[left_out] == pytest.approx(without.expected)


def test_one_cohort_gives_the_estimate_of_a_poisson_regression_with_fixed_effects():
    """What `sampan.outcomes` adds up is the Poisson estimate of statsmodels (group, period and both); its error is near."""
    given, of_funded = panel(Kind(60, 300, effect=1.12), 4)
    applied = np.where(given.applied < NEVER, 24, NEVER)
    given = replace(given, applied=applied, strata=[np.zeros_like(given.strata[0])])
    of_funded = replace(of_funded, applied=np.full(60, 24), start=np.full(60, 25))
    measured = outcomes.ratio(outcomes.compare(given, of_funded, WINDOW)["emf"])
    sold = np.concatenate([given.monthly[:, 12:24].sum(axis=1), given.monthly[:, 26:38].sum(axis=1)])
    is_funded, is_after = np.tile(applied == 24, 2).astype(float), np.repeat([0.0, 1.0], len(applied))
    regressors = pd.DataFrame({"const": 1.0, "funded": is_funded, "after": is_after, "both": is_funded * is_after})
    import statsmodels.api as sm

    fitted = sm.GLM(sold / sold.mean(), regressors, family=sm.families.Poisson()).fit(
        cov_type="cluster", cov_kwds={"groups": np.tile(np.arange(len(applied)), 2)}
    )
    assert measured.log[0] == pytest.approx(fitted.params["both"], rel=1e-6)
    # The jackknife is a little wider than the usual clustered error, which few large enterprises make too small.
    assert fitted.bse["both"] < measured.error[0] < 1.2 * fitted.bse["both"]


def covered(found: list[dict], name: str) -> float:
    return sum(one[name] for one in found) / len(found)


@pytest.mark.parametrize(
    "kind",
    [Kind(80, 400), Kind(80, 400, effect=1.12, persistence=0.9), Kind(40, 250, effect=1.12, sizes=1.2, idle=0.3)],
    ids=["no effect", "an effect, shocks that last", "few, very unequal, often idle"],
)
def test_intervals_hold_the_truth_as_often_as_they_say(kind):
    """Funded firms twice as large, with shocks that come back; the benchmark outcome_coverage has more runs."""
    runs = 120
    found = list(run(kind, range(runs), by_month=False))
    assert len(found) > 0.9 * runs
    # With a true coverage of 95% fewer than these are covered in one of 10,000 series.
    least = stats.binom.ppf(1e-4, len(found), 0.95) / len(found)
    assert covered(found, "covered") >= least
    assert covered(found, "placebo") >= least
    estimates = np.array([one["estimate"] for one in found])
    # No bias beyond what chance leaves of it, and errors that are neither too small nor so large that they hold anything.
    assert abs(estimates.mean() - math.log(kind.effect)) < 4 * estimates.std() / math.sqrt(len(found))
    assert 0.75 * estimates.std() < np.mean([one["error"] for one in found]) < 1.5 * estimates.std()


def test_no_effect_is_given_when_trends_differed_before():
    given, of_funded = panel(Kind(80, 800, trend=0.5), 3)
    found, months = outcomes.estimates({"exports": (given, {6: of_funded, 12: of_funded})})
    row = next(row for row in found if (row["programme"], row["window_months"]) == ("emf", 12))
    assert row["status"] == "trends_differ"
    assert row["placebo_low"] > 1
    assert not row.keys() & {"effect", "effect_low", "applicants_effect", "p_value", "p_value_adjusted"}
    shown = {month["event_month"] for month in months if (month["programme"], month["window_months"]) == ("emf", 12)}
    assert shown == set(range(-24, 0))


def test_trends_that_cannot_be_tested_leave_the_effect_without_a_placebo():
    given, of_funded = panel(SMALL, 5)
    # The record begins 12 months later: no enterprise has 24 months before its application.
    given = replace(
        given, monthly=given.monthly[:, 12:], applied=np.where(given.applied < NEVER, given.applied - 12, NEVER),
        strata=[strata[:, 12:] for strata in given.strata],
    )  # fmt: skip
    of_funded = replace(of_funded, applied=of_funded.applied - 12, start=of_funded.start - 12)
    row = rows(given, of_funded)["emf", 12]
    late = (of_funded.applied >= 24).sum()
    assert (row["status"], row["placebo_funded_count"]) == ("estimated", late)
    assert "placebo" not in row


def test_event_months_average_to_the_effect_and_bands_are_wider_than_intervals():
    given, of_funded = panel(Kind(80, 800, effect=1.5), 6)
    sums = outcomes.compare(given, of_funded, WINDOW, by_month=True)["emf"]
    measured = outcomes.ratio(sums)
    names = outcomes.event_months(WINDOW)
    after = [1 + names.index(month) for month in range(1, 13)]
    assert sums.sold[after].sum() == pytest.approx(sums.sold[0])
    assert sums.expected[after].sum() == pytest.approx(sums.expected[0])
    before = [1 + names.index(month) for month in range(-12, 0)]
    assert sums.sold[before].sum() == pytest.approx(sums.before)
    low, high = measured.bands()
    reach = measured.error * stats.t.ppf(0.975, measured.degrees)
    assert (np.log(high / low) > 2 * reach).all()
    assert measured.bands()[0].tolist() == low.tolist()
    assert min(measured.log[after]) > math.log(1.5) / 2


def test_funded_are_compared_within_industry_and_size_class_or_else_within_industry():
    # Ten of class 0 double, ten of class 1 stay. Of class 2 there are two, too few: it is compared with all of its industry.
    given = sales(
        [[100.0] * 8 + [200.0] * 6] * 10 + [[100.0] * 14] * 12 + [[100.0] * 14] * 2,
        [NEVER] * 22 + [6, 6],
        strata=[np.repeat([[0]] * 10 + [[1]] * 10 + [[2]] * 2 + [[0], [2]], 14, axis=1), np.zeros((24, 14), int)],
    )
    sums = outcomes.compare(given, funded([22], [6], [7]), 6)["emf"]
    assert (sums.expected[0], sums.unfunded.sum()) == (1200, 10)
    sums = outcomes.compare(given, funded([23], [6], [7]), 6)["emf"]
    assert sums.expected[0] == pytest.approx(600 * (10 * 200 + 12 * 100) / (22 * 100))
    assert sums.unfunded.sum() == 22


@pytest.mark.parametrize(
    ("change", "others"),
    [
        ({"applied": [NEVER] * 12 + [6, 6]}, 12),
        ({"applied": [14] * 1 + [NEVER] * 11 + [6, 6]}, 12),
        ({"applied": [13] * 1 + [NEVER] * 11 + [6, 6]}, 11),
        ({"applied": [3] * 1 + [NEVER] * 11 + [6, 6]}, 11),
        ({"exists_from": np.array([1] + [0] * 13)}, 11),
        ({"ends": np.array([7] + [NEVER] * 13)}, 11),
        ({"ends": np.array([8] + [NEVER] * 13)}, 12),
        ({"strata": [np.where(np.arange(14)[:, None] == 0, -1, np.zeros((14, 14), int))] * 2}, 11),
    ],
    ids=[
        "never funded", "applies after the window", "applies in its last month", "funded before", "began within the window",
        "ended before the start", "ended after the start", "large",
    ],
)  # fmt: skip
def test_unfunded_have_no_application_granted_until_the_window_is_over_and_exist_in_it(change, others):
    given = sales([[100.0 + number] * 14 for number in range(14)], [NEVER] * 12 + [6, 6])
    given = replace(given, **{name: np.array(value) if name == "applied" else value for name, value in change.items()})
    assert outcomes.compare(given, funded([12, 13], [6, 6], [7, 7]), 6)["emf"].unfunded.sum() == others


def test_applicants_are_compared_apart():
    given, of_funded = panel(Kind(60, 300, effect=1.3), 7)
    is_applicant = np.arange(360) < 140
    # Who applied and was not funded grew by 20% more of itself.
    given.monthly[60:140, 36:] *= 1.2
    found = rows(replace(given, has_applied=is_applicant), of_funded)["emf", 12]
    assert found["applicants_count"] == 80
    assert found["applicants_effect"] < found["effect"]
    assert found["applicants_effect_low"] <= found["applicants_effect"] <= found["applicants_effect_high"]


def test_programmes_are_estimated_apart_and_together():
    given, of_funded = panel(SMALL, 8)
    of_funded = replace(of_funded, programme=np.where(np.arange(60) < 35, "bud_easy", "emf"))
    found = rows(given, of_funded)
    counts = {group: found[group, 12]["matched_funded_count"] for group in outcomes.GROUPS}
    assert counts == {"all": 60, "bud": 35, "bud_general": 0, "bud_easy": 35, "bud_ecommerce_easy": 0, "emf": 25}
    assert found["all", 12]["funded_after_hkd"] == pytest.approx(
        (35 * found["bud", 12]["funded_after_hkd"] + 25 * found["emf", 12]["funded_after_hkd"]) / 60, abs=0.02
    )
    assert found["all", 12]["paid_hkd"] == 60 * 1e5
    assert (found["all", 12]["first_start_month"], found["all", 12]["last_start_month"]) == tuple(
        date(2022 + month // 12, month % 12 + 1, 1) for month in (of_funded.start.min(), of_funded.start.max())
    )


# Funded of bud_general, bud_easy, bud_ecommerce_easy and emf.
SIZES = [
    (0, 50, 0, 10),
    (5, 30, 20, 5),
    (20, 20, 20, 0),
    (0, 0, 0, 60),
    (3, 3, 50, 4),
    (10, 10, 30, 10),
    (19, 0, 0, 41),
]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_no_group_of_few_follows_from_the_groups_that_are_shown_by_month(sizes):
    """Kind of fault: a sum less its shown parts is a part that is too small to be shown; `emf` was `all` less `bud`."""
    given, of_funded = panel(SMALL, 8)
    of_funded = replace(of_funded, programme=np.repeat(np.array(outcomes.PROGRAMMES), sizes))
    _, months = outcomes.estimates({"exports": (given, {WINDOW: of_funded, 6: of_funded})})
    assert months
    known: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for month in months:
        at = known.setdefault((month["window_months"], month["event_month"]), [])
        at.append((month["programme"], month["funded_count"]))
    unions = [np.array(flags) for flags in product((0, 1), repeat=len(sizes)) if any(flags)]
    for at, shown in known.items():
        assert "all" in dict(shown), at
        groups = np.array([[name in outcomes.GROUPS[group] for name in outcomes.PROGRAMMES] for group, _ in shown], int)
        counts = np.array([count for _, count in shown])
        for union in unions:
            how = np.linalg.lstsq(groups.T, union, rcond=None)[0]
            if np.allclose(how @ groups, union):
                found = round(how @ counts)
                assert not 0 < found < outcomes.MIN_ENTERPRISES, (at, shown, union, found)


# Who begins to sell with the window before, of 30 funded each of bud_easy and emf, and the first months that are shown. What
# `all` has less `bud` is `emf`: the two are not shown together where `emf` may not be shown.
BEGINNERS = [
    ([], {"all": -24, "bud": -24, "emf": -24}),
    (range(31, 60), {"all": -24, "bud": -12, "emf": -12}),
    (range(1, 60), {"all": -12, "bud": -12, "emf": -24}),
]


@pytest.mark.parametrize(("beginners", "first"), BEGINNERS, ids=["no one", "all but one of emf", "all but one"])
def test_no_month_is_shown_that_is_of_one_enterprise(beginners, first):
    """Kind of fault: enough funded, and one that sold nearly all in a month: effects by month are its own sales by month."""
    given, of_funded = panel(SMALL, 8)
    of_funded = replace(of_funded, programme=np.where(np.arange(60) < 30, "bud_easy", "emf"))
    for place in beginners:
        given.monthly[of_funded.position[place], : of_funded.applied[place] - WINDOW] *= 1e-4
    _, months = outcomes.estimates({"exports": (given, dict.fromkeys(outcomes.WINDOWS, of_funded))})
    shown: dict[str, int] = {}
    for month in months:
        if month["window_months"] == WINDOW:
            shown[month["programme"]] = min(month["event_month"], shown.get(month["programme"], WINDOW))
    assert {group: shown[group] for group in first} == first


def test_p_values_are_adjusted_for_all_rows_that_are_looked_at():
    given, of_funded = panel(Kind(80, 800, effect=1.1), 9)
    of_funded = replace(of_funded, programme=np.where(np.arange(80) < 40, "bud_easy", "emf"))
    tested = sorted(
        (row["p_value"], row["p_value_adjusted"]) for row in rows(given, of_funded).values() if "effect" in row
    )
    assert len(tested) == 8
    # Holm: the smallest times 8, the next times 7, and so on, none smaller than the one before, none above 1.
    wanted, before = [], 0.0
    for rank, (p_value, _) in enumerate(tested):
        before = max(before, min(1.0, (8 - rank) * p_value))
        wanted.append(before)
    assert [adjusted for _, adjusted in tested] == pytest.approx(wanted)


def few(count: int, others: int) -> tuple[Sales, Funded]:
    return panel(Kind(count, others), 10)


def nothing_after() -> tuple[Sales, Funded]:
    given, of_funded = panel(SMALL, 10)
    given.monthly[:, 24:] = 0
    return given, of_funded


def one_that_sells_nearly_everything() -> tuple[Sales, Funded]:
    given, of_funded = panel(SMALL, 10)
    given.monthly[0] *= 1e6
    return given, of_funded


def no_one_alike() -> tuple[Sales, Funded]:
    given, of_funded = panel(SMALL, 10)
    return replace(given, strata=[np.repeat(np.arange(360)[:, None], given.monthly.shape[1], axis=1)]), of_funded


@pytest.mark.parametrize(
    "given",
    [few(19, 300), few(60, 19), nothing_after(), one_that_sells_nearly_everything(), no_one_alike()],
    ids=["few funded", "few unfunded", "nothing sold after", "one sells nearly everything", "no one alike"],
)
def test_too_few_is_said_and_no_figure_given(given):
    found, months = outcomes.estimates({"exports": (given[0], {6: given[1], 12: given[1]})})
    assert len(found) == 24
    assert {row["status"] for row in found} == {"too_few"}
    assert not any(name in row for row in found for name in ("effect", "placebo", "funded_before_hkd", "p_value"))
    assert not months


def test_a_warehouse_without_sales_says_too_few_of_everything():
    found, months = outcomes.estimates({})
    assert [row["status"] for row in found] == ["too_few"] * 24
    assert {row["funded_count"] for row in found} == {0}
    assert not months
