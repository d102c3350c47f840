"""Outcomes: how sales of funded enterprises changed compared with matched unfunded ones, estimated once in each build.

dbt makes the matched panel (`int_funding__outcome_panel`); this module weights it, estimates with statsmodels, and stores the
results per build in `ops.funding_outcome`, which `mart_funding_outcomes` reads. See ADR 0022.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from sampan import failpoints
from sampan.database import connect

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
MEASURES = ("exports", "online_net_sales")
# Groups of programmes; an enterprise counts in the group of its first project.
GROUPS = {
    "all": ("bud_general", "bud_easy", "bud_ecommerce_easy", "emf"),
    "bud": ("bud_general", "bud_easy", "bud_ecommerce_easy"),
    "bud_general": ("bud_general",),
    "bud_easy": ("bud_easy",),
    "bud_ecommerce_easy": ("bud_ecommerce_easy",),
    "emf": ("emf",),
}
# With fewer enterprises on either side, an interval is narrower than it should be, and a mean discloses single enterprises.
MIN_ENTERPRISES = 20
MIN_EFFECTIVE = 3
CONFIDENCE = 0.95
STRATUM = ["start_month", "industry_section", "sme_class", "size_of_sales"]
PANEL = [
    *STRATUM, "measure", "sme_id", "is_funded", "is_matched", "programme", "before_early_hkd", "before_late_hkd", "after_hkd",
]  # fmt: skip


@dataclass(frozen=True)
class Ratio:
    """A ratio of ratios with the bounds of its 95% confidence interval; 1 means no effect."""

    value: float
    low: float
    high: float


def run(claim: str | None = None, schema: str = "intermediate", as_known: int | None = None) -> dict[str, int]:
    """Estimate from the panel of the current build and store the results, in place of those of an earlier attempt.

    `claim` is the build's hold on the step (`build_no/step/token`); without a valid one TransientFailure is raised. `schema`
    is where the panel is, and `as_known` the number of a look-back's build. Returns rows stored, and how many of them could
    be estimated.
    """
    import pandas as pd

    with connect("builder", autocommit=False) as connection:
        settings_of_session = "select set_config('sampan.claim', %s, false), set_config('sampan.as_known', %s, false)"
        connection.execute(settings_of_session, [claim or "", str(as_known or "")])
        connection.execute("select ops.assert_step_claimed()")
        build = connection.execute("select build_no from ops.open_build").fetchone()
        if build is None:
            return {"rows": 0, "estimated": 0}
        panel = sql.SQL("select {} from {}").format(
            sql.SQL(", ").join(map(sql.Identifier, PANEL)), sql.Identifier(schema, "int_funding__outcome_panel")
        )
        rows = connection.execute(panel).fetchall()
        found = list(estimates(pd.DataFrame(rows, columns=PANEL)))
        connection.execute("delete from ops.funding_outcome where build_no = %s", [build[0]])
        with connection.cursor() as cursor:
            for row in found:
                names = ", ".join(row)
                values = ", ".join(f"%({name})s" for name in row)
                statement = f"insert into ops.funding_outcome (build_no, {names}) values (%(build_no)s, {values})"
                cursor.execute(statement, row | {"build_no": build[0]})
        failpoints.hit("outcomes.before_commit")
        connection.commit()
    done = {"rows": len(found), "estimated": sum(row["status"] == "estimated" for row in found)}
    log.info("outcomes: %s", ", ".join(f"{count} {what}" for what, count in done.items()))
    return done


def estimates(panel: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """One row per measure and group of programmes, in the columns of `ops.funding_outcome`, from the matched panel."""
    money = ["before_early_hkd", "before_late_hkd", "after_hkd"]
    panel = panel.assign(**{name: panel[name].astype(float) for name in money})
    panel["before_hkd"] = panel["before_early_hkd"] + panel["before_late_hkd"]
    for measure in MEASURES:
        measured = panel[panel["measure"] == measure]
        for group, programmes in GROUPS.items():
            yield {"measure": measure, "programme": group} | _estimated(measured, programmes)


def _estimated(panel: pd.DataFrame, programmes: Sequence[str]) -> dict[str, Any]:
    """Counts, means per enterprise (HKD), effect and placebo effect of one measure and group."""
    funded = panel[panel["is_funded"].astype(bool) & panel["programme"].isin(programmes)]
    matched = funded[funded["is_matched"].astype(bool)]
    rows = reweight(matched, panel[~panel["is_funded"].astype(bool)])
    control = rows[rows["funded"] == 0]
    found: dict[str, Any] = {
        "status": "too_few",
        "funded_count": len(funded),
        "matched_funded_count": len(matched),
        "unfunded_count": int(control["sme_id"].nunique()),
        "first_start_month": min(funded["start_month"], default=None),
        "last_start_month": max(funded["start_month"], default=None),
    }
    if min(found["matched_funded_count"], found["unfunded_count"]) < MIN_ENTERPRISES:
        return found
    effect = difference_in_differences(rows, "before_hkd", "after_hkd")
    placebo = difference_in_differences(rows, "before_early_hkd", "before_late_hkd")
    if effect is None:
        return found
    found["status"] = "estimated"
    for side, part in (("funded", rows[rows["funded"] == 1]), ("unfunded", control)):
        for when in ("before", "after"):
            mean = (part[f"{when}_hkd"] * part["weight"]).sum() / part["weight"].sum()
            found[f"{side}_{when}_hkd"] = round(float(mean), 2)
    for name, measured in (("effect", effect), ("placebo", placebo)):
        if measured is not None:
            found |= {name: measured.value, f"{name}_low": measured.low, f"{name}_high": measured.high}
    return found


def reweight(funded: pd.DataFrame, unfunded: pd.DataFrame) -> pd.DataFrame:
    """The funded, and the unfunded of their strata with weights that give each stratum the same total on both sides.

    Returns the rows of both with `funded` (0 or 1) and `weight`; an unfunded enterprise may be in several strata.
    """
    import pandas as pd

    wanted = funded.groupby(STRATUM, as_index=False).size().rename(columns={"size": "wanted"})
    control = unfunded.merge(wanted, on=STRATUM)
    available = control.groupby(STRATUM)["sme_id"].transform("size")
    control = control.assign(funded=0, weight=control["wanted"] / available).drop(columns="wanted")
    return pd.concat([funded.assign(funded=1, weight=1.0), control], ignore_index=True)


def difference_in_differences(rows: pd.DataFrame, before: str, after: str) -> Ratio | None:
    """How much more the funded grew than the unfunded: a ratio of ratios of totals, with its confidence interval.

    A Poisson regression of sales on group, period and their interaction, two observations per row, with standard errors
    clustered by enterprise. `before` and `after` name the columns with sales (HKD). The fewer enterprises sell most, the
    wider the interval. None when a side sold nothing in a period, or one enterprise sold nearly everything.
    """
    import numpy as np
    import pandas as pd
    import statsmodels.api as sm
    from scipy import stats

    totals = rows.groupby("funded")[[before, after]].sum()
    if len(totals) < 2 or (totals <= 0).to_numpy().any():
        return None
    enterprises = effective_sample_size(rows, rows[before] + rows[after])
    if enterprises < MIN_EFFECTIVE:
        return None
    # Refunds may exceed payments in a period; sales are never negative.
    sold = np.maximum(np.concatenate([rows[before], rows[after]]), 0.0)
    count = len(rows)
    is_funded = np.tile(rows["funded"].to_numpy(float), 2)
    is_after = np.repeat([0.0, 1.0], count)
    regressors = pd.DataFrame(
        {"const": 1.0, "funded": is_funded, "after": is_after, "funded_after": is_funded * is_after}
    )
    clusters = np.tile(pd.factorize(rows["sme_id"])[0], 2)
    # A weight n enters as exposure n with n times the sales, which gives the same scores as weighting. A ratio has no unit:
    # dividing by the mean only keeps the iteration stable.
    weights = np.tile(rows["weight"].to_numpy(float), 2)
    model = sm.GLM(weights * sold / sold.mean(), regressors, family=sm.families.Poisson(), exposure=weights)
    fitted = model.fit(cov_type="cluster", cov_kwds={"groups": clusters})
    effect, error = fitted.params["funded_after"], fitted.bse["funded_after"]
    error *= np.sqrt(enterprises / (enterprises - 1)) * stats.t.ppf((1 + CONFIDENCE) / 2, enterprises - 1)
    return Ratio(*(float(np.exp(value)) for value in (effect, effect - error, effect + error)))


def effective_sample_size(rows: pd.DataFrame, sold: pd.Series[float]) -> float:
    """Kish's effective number of enterprises, weighted by their sales, of the side that has fewer."""
    parts = (rows["weight"] * sold).groupby([rows["funded"], rows["sme_id"]]).sum()
    return float(min(side.sum() ** 2 / (side**2).sum() for _, side in parts.groupby(level=0)))
