"""What a festival did to the shops that took part and to Design Gallery, what a quality mark changed at the shops that won or
lost it, and what shops sell on days with a live stream.

dbt makes a panel for each study (`PANELS`): per shop a figure before and after, and what it is a rate of. This module
estimates with statsmodels, once in each build, and stores the results in `ops.shop_effect`. See ADR 0032.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sampan import failpoints
from sampan.database import claimed_session, replace_rows
from sampan.engine import engine

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
# With fewer enterprises on either side no figure is shown.
MIN_ENTERPRISES = 10
MIN_EFFECTIVE = 3
CONFIDENCE = 0.95
PANELS = {
    "festival": "int_festival__effect_panel",
    "gallery": "int_gallery__effect_panel",
    "live_stream": "int_live_streams__effect_panel",
    "mark": "int_marks__effect_panel",
}
KEYS = ["event", "measure", "time_window"]
PANEL = [*KEYS, "cluster_key", "shop", "stratum", "is_treated", "audiences",
         "before_value", "after_value", "before_base", "after_base"]  # fmt: skip


@dataclass(frozen=True)
class Ratio:
    """A ratio with the bounds of its 95% confidence interval; 1 means no effect."""

    value: float
    low: float
    high: float


def run(
    study: str, claim: str | None = None, schema: str = "intermediate", as_known: int | None = None
) -> dict[str, int]:
    """Estimate a study (a key of `PANELS`) from its panel and store the results, in place of those of an earlier attempt.

    `claim` is the build's hold on the step (`build_no/step/token`); without a valid one TransientFailure is raised. `schema`
    is where the panel is, and `as_known` the number of a look-back's build. Returns rows stored, and how many of them could
    be estimated.
    """
    with claimed_session(claim, as_known) as connection:
        build = connection.execute("select build_no from ops.open_build").fetchone()
        if build is None:
            return {"rows": 0, "estimated": 0}
        panel = engine(as_known).read(connection, f"select {', '.join(PANEL)} from {schema}.{PANELS[study]}")
        found = list(estimates(panel.to_pandas(date_as_object=True)))
        replace_rows(connection, "shop_effect", {"build_no": build[0], "study": study}, found)
        failpoints.hit("shop_effects.before_commit")
        connection.commit()
    done = {"rows": len(found), "estimated": sum(row["status"] == "estimated" for row in found)}
    log.info("effects (%s): %s", study, ", ".join(f"{count} {what}" for what, count in done.items()))
    return done


def estimates(panel: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """One row per event, measure, window and audience, in the columns of `ops.shop_effect`.

    `audiences` of a treated row lists, between semicolons, in which groups it counts; every other row is compared with all.
    """
    values = ["before_value", "after_value", "before_base", "after_base"]
    panel = panel.assign(
        **{name: panel[name].astype(float) for name in values}, is_treated=panel["is_treated"].astype(bool)
    )
    for key, rows in panel.groupby(KEYS, sort=True):
        names = sorted({name for text in rows.loc[rows["is_treated"], "audiences"] for name in text.split(";")})
        for audience in names:
            chosen = rows["audiences"].str.split(";").map(lambda of, name=audience: name in of) | ~rows["is_treated"]
            yield dict(zip(KEYS, key, strict=True)) | {"audience": audience} | _estimated(rows[chosen])


def _estimated(rows: pd.DataFrame) -> dict[str, Any]:
    treated = rows[rows["is_treated"]]
    usable = comparable(rows)
    own, others = usable[usable["is_treated"]], usable[~usable["is_treated"]]
    found: dict[str, Any] = {
        "status": "too_few",
        "shop_count": int(treated["shop"].nunique()),
        "compared_shop_count": int(own["shop"].nunique()),
        "other_shop_count": int(others["shop"].nunique()),
    }
    has_others = bool((~rows["is_treated"]).any())
    sizes = [own["cluster_key"].nunique(), *([others["cluster_key"].nunique()] if has_others else [])]
    effect = relative_change(usable) if min(sizes) >= MIN_ENTERPRISES else None
    if effect is None:
        return found
    shops = own.groupby("shop")[["before_value", "after_value", "before_base", "after_base"]].sum()
    rose = shops["after_value"] * shops["before_base"] > shops["before_value"] * shops["after_base"]
    found |= {"status": "estimated", "ratio": effect.value, "ratio_low": effect.low, "ratio_high": effect.high}
    found |= {"own_change": _change(own), "others_change": _change(others) if has_others else None}
    return found | {"risen_share": float(rose.mean())}


def _change(rows: pd.DataFrame) -> float:
    """The rate of all rows together after, over that before."""
    sums = rows[["before_value", "after_value", "before_base", "after_base"]].sum()
    return float(sums["after_value"] / sums["after_base"] / (sums["before_value"] / sums["before_base"]))


def comparable(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that say something: with a figure, and of strata with figures before and after on each side that is there."""
    rows = rows[
        (rows["before_value"] + rows["after_value"] > 0) & (rows[["before_value", "after_value"]] >= 0).all(axis=1)
        & (rows[["before_base", "after_base"]] > 0).all(axis=1)
    ]  # fmt: skip
    sums = rows.groupby(["stratum", "is_treated"])[["before_value", "after_value"]].sum()
    alive = (sums > 0).all(axis=1).groupby(level="stratum").agg(["sum", "size"])
    wanted = rows["is_treated"].nunique()
    strata = alive.index[(alive["sum"] == wanted) & (alive["size"] == wanted)]
    return rows[rows["stratum"].isin(strata)]


def relative_change(rows: pd.DataFrame) -> Ratio | None:
    """By what factor the treated rows changed, against the others of their stratum where there are any.

    A Poisson regression of figures on shop, period by stratum and treatment after, with two periods. Given the sum of
    its two figures, that of a row after is binomial: the effect of each shop drops out, and the regression is a
    logistic one on the share after, with the log of the ratio of bases as offset (Chamberlain 1980). Standard errors
    are clustered by enterprise; the fewer enterprises sell most, the wider is the interval. None when one side says
    nothing, or one enterprise has nearly everything.
    """
    import numpy as np
    import pandas as pd
    import statsmodels.api as sm
    from scipy import stats
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning, SpecificationWarning

    sides = [side for _, side in rows.groupby("is_treated")]
    if not len(rows) or not rows["is_treated"].any():
        return None
    total = rows["before_value"] + rows["after_value"]
    enterprises = min(_effective_number(total[side.index].groupby(side["cluster_key"]).sum()) for side in sides)
    if enterprises < MIN_EFFECTIVE:
        return None
    if len(sides) == 1:
        regressors = pd.DataFrame({"effect": 1.0}, index=rows.index)
    else:
        regressors = pd.get_dummies(rows["stratum"], dtype=float)
        regressors["effect"] = rows["is_treated"].astype(float)
    model = sm.GLM(
        rows["after_value"] / total,
        regressors,
        family=sm.families.Binomial(),
        var_weights=total / total.mean(),
        offset=np.log(rows["after_base"] / rows["before_base"]),
    )
    groups = pd.factorize(rows["cluster_key"])[0]
    with warnings.catch_warnings():
        # It warns of any weights; these are in the scores, as a sandwich worked out by hand gives the same errors.
        warnings.simplefilter("ignore", SpecificationWarning)
        # Shares that are fitted exactly: an error of 0, as in a sample without any spread.
        warnings.simplefilter("ignore", PerfectSeparationWarning)
        fitted = model.fit(cov_type="cluster", cov_kwds={"groups": groups})
    error = fitted.bse["effect"] * np.sqrt(enterprises / (enterprises - 1))
    error *= stats.t.ppf((1 + CONFIDENCE) / 2, enterprises - 1)
    if not np.isfinite(error):
        return None
    effect = fitted.params["effect"]
    return Ratio(*(float(np.exp(value)) for value in (effect, effect - error, effect + error)))


def _effective_number(sold: pd.Series[float]) -> float:
    """Kish's effective number of enterprises, weighted by their figures."""
    return float(sold.sum() ** 2 / (sold**2).sum())
