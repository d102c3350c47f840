"""Outcomes: what funded enterprises sold after, against what they would have sold with the growth of those without funding.

dbt says who was funded, when, and what each enterprise sold in each month; this module compares them and keeps the results
of each build in `ops.funding_outcome` and `ops.funding_outcome_month`, which the marts read. See ADR 0022.
"""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache, partial, reduce
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from sampan import failpoints
from sampan.database import claimed_session, replace_rows
from sampan.engine import engine

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Whole = NDArray[np.int64]
    Flags = NDArray[np.bool_]

log = logging.getLogger(__name__)
MEASURES = ("exports", "online_net_sales")
# Months before the application and after the start that are compared; as many again before them are for the placebo.
WINDOWS = (6, 12)
PROGRAMMES = ("bud_general", "bud_easy", "bud_ecommerce_easy", "emf")
# Groups of programmes; an enterprise counts in the group of its first project.
GROUPS = {"all": PROGRAMMES, "bud": PROGRAMMES[:3], **{programme: (programme,) for programme in PROGRAMMES}}
# With fewer enterprises on either side, an interval is narrower than it should be, and a mean discloses single enterprises.
MIN_ENTERPRISES = 20
MIN_EFFECTIVE = 3
# Growth of fewer enterprises is that of one or two of them.
MIN_ALIKE = 10
# Of a month that is published: with a larger part of one enterprise, the effects by month are its own sales by month.
MOST_OF_ONE = 0.75
CONFIDENCE = 0.95
# Bands come from so many draws of a fixed seed: the same build gives the same figures.
DRAWS, SEED = 10_000, 1
NEVER = 10**6
# Errors of logarithms below this are what rounding leaves of none.
ALIKE = 1e-9


@dataclass(frozen=True)
class Sales:
    """One measure of n enterprises in T months. Months are counted from the first of them; NEVER is after all.

    monthly is in HKD. applied is the month of the application for the first project, NEVER without one. exists_from and
    ends bound the months in which the enterprise exists. strata are what it is compared within, by month, narrow ones first:
    industry and size class, and industry; -1 while it is not an SME.
    """

    first_month: date
    monthly: Floats
    applied: Whole
    has_applied: Flags
    exists_from: Whole
    ends: Whole
    strata: Sequence[Whole]

    def month(self, position: int) -> date:
        """First day of a month."""
        months = _month(self.first_month) + int(position)
        return date(months // 12, months % 12 + 1, 1)


@dataclass(frozen=True)
class Funded:
    """Funded enterprises to compare: position in Sales, months of application and start, programme, what was paid (HKD), and
    whether they existed before the oldest application on record."""

    position: Whole
    applied: Whole
    start: Whole
    programme: NDArray[np.str_]
    paid: Floats
    existed_before: Flags


@dataclass
class Sums:
    """What a comparison adds up, for K columns (periods) and n enterprises: all that estimates and their errors need.

    sold and expected are those of the funded, in fact and with the growth of the unfunded; without_sold and
    without_expected are what goes from them when an enterprise is left out. weight is the part of each enterprise in the
    sums of the unfunded and of the funded. Money is in HKD.
    """

    sold: Floats
    expected: Floats
    without_sold: Floats
    without_expected: Floats
    weight: Floats
    funded: Whole
    compared: Flags
    unfunded: Flags
    before: float = 0.0
    unfunded_before: float = 0.0
    unfunded_after: float = 0.0
    paid: float = 0.0

    @classmethod
    def zero(cls, enterprises: int, columns: int) -> Sums:
        """Nothing compared yet."""
        each = (enterprises, columns)
        return cls(
            np.zeros(columns), np.zeros(columns), np.zeros(each), np.zeros(each), np.zeros((2, enterprises)),
            np.zeros(columns, np.int64), np.zeros(enterprises, bool), np.zeros(enterprises, bool),
        )  # fmt: skip

    def __add__(self, other: Sums) -> Sums:
        return Sums(**{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class Ratio:
    """What was sold over what was expected, per column, with standard errors of the logarithms.

    replicates are the logarithms with each enterprise left out, less their mean. degrees is for Student's t.
    """

    log: Floats
    error: Floats
    replicates: Floats = field(repr=False)
    degrees: float

    def interval(self, column: int = 0) -> tuple[float, float, float]:
        """Estimate and bounds of the 95% interval of a column, as ratios; 1 means no effect."""
        from scipy import stats

        reach = self.error[column] * stats.t.ppf((1 + CONFIDENCE) / 2, self.degrees)
        low, high = np.exp(self.log[column] - reach), np.exp(self.log[column] + reach)
        return float(np.exp(self.log[column])), float(low), float(high)

    def p_value(self, column: int = 0) -> float:
        """How often a ratio so far from 1 comes about without an effect."""
        from scipy import stats

        return float(2 * stats.t.sf(abs(self.log[column]) / self.error[column], self.degrees))

    def bands(self) -> tuple[Floats, Floats]:
        """Bounds that hold all columns at once in 95 of 100 cases (sup-t bands)."""
        from scipy import stats

        known = np.isfinite(self.error) & (self.error > ALIKE)
        replicates = self.replicates[:, known]
        # Months differ more than whole windows. As many degrees as normal replicates that spread so would have.
        degrees = np.median(3 * (replicates**2).sum(axis=0) ** 2 / (replicates**4).sum(axis=0))
        correlation = np.corrcoef(replicates, rowvar=False)
        draws = stats.multivariate_t(shape=correlation, df=degrees, allow_singular=True)
        furthest = np.abs(draws.rvs(DRAWS, random_state=SEED).reshape(DRAWS, -1)).max(axis=1)
        reach = self.error * np.quantile(furthest, CONFIDENCE)
        return np.exp(self.log - reach), np.exp(self.log + reach)


def run(claim: str | None = None, schema: str = "intermediate", as_known: int | None = None) -> dict[str, int]:
    """Estimate for the current build and store the results, in place of those of an earlier attempt.

    `claim` is the build's hold on the step (`build_no/step/token`); without a valid one TransientFailure is raised. `schema`
    is where the models are, and `as_known` the number of a look-back's build. Returns rows stored, and how many of them could
    be estimated.
    """
    with claimed_session(claim, as_known) as connection:
        build = connection.execute("select build_no from ops.open_build").fetchone()
        if build is None:
            return {"rows": 0, "estimated": 0}
        found, months = estimates(_inputs(lambda query: engine(as_known).read(connection, query), schema))
        for table, rows in (("funding_outcome", found), ("funding_outcome_month", months)):
            replace_rows(connection, table, {"build_no": build[0]}, rows)
        failpoints.hit("outcomes.before_commit")
        connection.commit()
    done = {"rows": len(found), "estimated": sum(row["status"] == "estimated" for row in found)}
    log.info("outcomes: %s", ", ".join(f"{count} {what}" for what, count in done.items()))
    return done


def estimates(
    inputs: Mapping[str, tuple[Sales, Mapping[int, Funded]]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of `ops.funding_outcome` and of `ops.funding_outcome_month`, from sales and the funded per measure and window.

    A measure without sales is not in `inputs`; its rows say too_few.
    """
    found: list[dict[str, Any]] = []
    months: list[dict[str, Any]] = []
    for measure in MEASURES:
        for window in WINDOWS:
            sales, by_window = inputs.get(measure, (None, {}))
            effects = compare(sales, by_window[window], window, by_month=True) if sales else {}
            of_groups: list[dict[str, Any]] = []
            for group, row, by_month in _of_measure(sales, by_window, window, effects):
                key = {"measure": measure, "programme": group, "window_months": window}
                found.append(key | row)
                of_groups.extend(key | month for month in by_month)
            months.extend(_shown_together(of_groups, effects, window))
    _adjust(found)
    return found, months


def compare(
    sales: Sales,
    funded: Funded,
    window: int,
    *,
    placebo: bool = False,
    applicants: bool = False,
    by_month: bool = False,
) -> dict[str, Sums]:
    """Sums per programme of the funded that somebody is like, and of those whom they are compared with.

    Column 0 is the window after the start against the one before the application, or with `placebo` the window before against
    the one before that. With `by_month` the columns after it are the months that `event_months` names, each against the
    window before the application.

    The unfunded are those who applied for no project that was granted until the window was over; with `applicants` only those
    of them who ever applied, in one stratum. Where a stratum has too few, the next wider one is taken.
    """
    columns = 1 + len(event_months(window)) if by_month else 1
    found = {str(name): Sums.zero(len(sales.monthly), columns) for name in np.unique(funded.programme)}
    until = np.concatenate([np.zeros((len(sales.monthly), 1)), np.cumsum(sales.monthly, axis=1)], axis=1)
    for applied, start in sorted({*zip(funded.applied.tolist(), funded.start.tolist(), strict=True)}):
        first = applied - 2 * window if placebo else applied - window
        if first < 0:
            continue
        spans = [(applied - window, applied) if placebo else (start + 1, start + 1 + window)]
        over = max(applied, spans[0][1] - 1)
        if by_month:
            spans += _month_spans(applied, start, window)
        periods = _Periods(until, (first, first + window), np.array(spans))
        strata = [by_month[:, applied] for by_month in sales.strata]
        is_alike = (sales.applied > over) & (strata[0] >= 0) & (sales.exists_from <= first) & (sales.ends > start)
        if applicants:
            is_alike, strata = is_alike & sales.has_applied, [np.minimum(strata[0], 0)]
        rest = np.flatnonzero((funded.applied == applied) & (funded.start == start))
        for stratum in strata:
            wanted = np.isin(stratum, stratum[funded.position[rest]])
            comparison = _Comparison.of(periods, stratum, np.flatnonzero(is_alike & wanted))
            is_matched = comparison.is_enough[stratum[funded.position[rest]]]
            matched, rest = rest[is_matched], rest[~is_matched]
            for programme in np.unique(funded.programme[matched]):
                members = matched[funded.programme[matched] == programme]
                comparison.add(found[str(programme)], funded.position[members], funded.paid[members])
    return found


def event_months(window: int) -> list[int]:
    """Months before the application (negative) and after the start; 0 is from the one to the other."""
    return list(range(-2 * window, window + 1))


def ratio(sums: Sums) -> Ratio | None:
    """What was sold over what was expected, with errors by leaving out each enterprise in turn.

    The errors are those of the delete-one jackknife over enterprises, which few large ones do not make too small (Hansen
    2025); Student's t has the degrees of the effective number of enterprises, on the side that has fewer. None when a side
    sold nothing, one enterprise nearly everything, or all grew exactly alike.
    """
    if (sums.sold[0] <= 0) or (sums.expected[0] <= 0):
        return None
    effective = min(side.sum() ** 2 / (side**2).sum() for side in sums.weight)
    if effective < MIN_EFFECTIVE:
        return None
    others = sums.compared
    count = int(others.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = np.log(sums.sold / sums.expected)
        replicates = np.log((sums.sold - sums.without_sold[others]) / (sums.expected - sums.without_expected[others]))
        replicates -= replicates.mean(axis=0)
    error = np.sqrt((count - 1) / count * (replicates**2).sum(axis=0))
    return Ratio(estimate, error, replicates, effective - 1) if error[0] > ALIKE else None


@dataclass(frozen=True)
class _Periods:
    """The periods of one cohort: its base, and its columns, each from a month up to another, which is not in it.

    `until` is what each enterprise sold before a month.
    """

    until: Floats
    base: tuple[int, int]
    spans: Whole

    @property
    def is_known(self) -> Flags:
        """Whether the record goes back to a column."""
        return self.spans[:, 0] >= 0

    def before(self, who: Whole) -> Floats:
        """What enterprises sold in the base."""
        sold: Floats = self.until[who, self.base[1]] - self.until[who, self.base[0]]
        return sold

    def sold(self, who: Whole) -> Floats:
        """What enterprises sold in column 0, and on average a month in the others; 0 where it is not known."""
        begin, end = np.maximum(self.spans, 0).T
        length = np.maximum(end - begin, 1)
        length[0] = 1
        rows = self.until[who]
        sold: Floats = (rows[:, end] - rows[:, begin]) / length * self.is_known
        return sold


@dataclass(frozen=True)
class _Comparison:
    """The unfunded of one cohort (months of application and start), by stratum: growth, and growth without each of them."""

    periods: _Periods
    stratum: Whole
    is_enough: Flags
    alike: Whole
    before: Floats
    sold: Floats
    total_before: Floats
    growth: Floats
    without: Floats

    @classmethod
    def of(cls, periods: _Periods, stratum: Whole, alike: Whole) -> _Comparison:
        strata = int(stratum.max(initial=0)) + 1
        before, sold = periods.before(alike), periods.sold(alike)
        # The last one is of those that are not SMEs.
        is_enough = np.append(np.bincount(stratum[alike][before > 0], minlength=strata) >= MIN_ALIKE, False)
        kept = is_enough[stratum[alike]] & ((before > 0) | (sold[:, 0] > 0))
        alike, before, sold = alike[kept], before[kept], sold[kept]
        of = stratum[alike]
        total_before = np.bincount(of, weights=before, minlength=strata).astype(float)
        total_sold = np.stack([np.bincount(of, weights=column, minlength=strata) for column in sold.T], axis=1)
        growth = total_sold / np.where(total_before > 0, total_before, np.inf)[:, None]
        without = (total_sold[of] - sold) / (total_before[of] - before)[:, None]
        return cls(periods, stratum, is_enough, alike, before, sold, total_before, growth, without)

    def add(self, sums: Sums, funded: Whole, paid: Floats) -> None:
        """Add funded enterprises that enough others are like, and those others."""
        before, sold, of, strata = (
            self.periods.before(funded),
            self.periods.sold(funded),
            self.stratum[funded],
            len(self.growth),
        )
        funded_before = np.bincount(of, weights=before, minlength=strata)
        count = np.bincount(of, minlength=strata)
        chosen = count[self.stratum[self.alike]] > 0
        alike, like = self.alike[chosen], self.stratum[self.alike[chosen]]
        expected = before[:, None] * self.growth[of]
        sums.sold += sold.sum(axis=0)
        sums.expected += expected.sum(axis=0)
        sums.without_sold[funded] += sold
        sums.without_expected[funded] += expected
        sums.without_expected[alike] += funded_before[like, None] * (self.growth[like] - self.without[chosen])
        weight = funded_before / np.where(self.total_before > 0, self.total_before, np.inf)
        growth, before_alike, after_alike = self.growth[:, 0], self.before[chosen], self.sold[chosen, 0]
        sums.weight[0, alike] += weight[like] * (growth[like] * before_alike + after_alike)
        sums.weight[1, funded] += growth[of] * before + sold[:, 0]
        sums.funded += len(funded) * self.periods.is_known
        sums.compared[funded] = sums.compared[alike] = True
        sums.unfunded[alike] = True
        each = count / np.maximum(np.bincount(like, minlength=strata), 1)
        sums.before += before.sum()
        sums.unfunded_before += (each[like] * before_alike).sum()
        sums.unfunded_after += (each[like] * after_alike).sum()
        sums.paid += paid.sum()


def _month_spans(applied: int, start: int, window: int) -> list[tuple[int, int]]:
    """First month and the month after the last of each event month."""
    before = [(applied + month, applied + month + 1) for month in range(-2 * window, 0)]
    after = [(start + month, start + month + 1) for month in range(1, window + 1)]
    return [*before, (applied, start + 1), *after]


def _of_measure(
    sales: Sales | None, by_window: Mapping[int, Funded], window: int, effects: Mapping[str, Sums]
) -> Iterator[tuple[str, dict[str, Any], list[dict[str, Any]]]]:
    """Per group of programmes: its name, its row and the rows of its event months."""
    if sales is None:
        for group in GROUPS:
            yield group, {"status": "too_few"} | dict.fromkeys(COUNTS, 0), []
        return
    funded = by_window[window]
    placebos = compare(sales, funded, window, placebo=True)
    against_applicants = compare(sales, funded, window, applicants=True)
    for group, programmes in GROUPS.items():
        chosen = np.isin(funded.programme, programmes)
        starts = (
            [sales.month(month) for month in (min(funded.start[chosen]), max(funded.start[chosen]))]
            if chosen.any()
            else []
        )
        row: dict[str, Any] = {
            "status": "too_few",
            "funded_count": int(chosen.sum()),
            "existed_before_count": int(funded.existed_before[chosen].sum()),
            "first_start_month": starts[0] if starts else None,
            "last_start_month": starts[1] if starts else None,
        }
        effect, placebo, applicants = (_total(part, programmes) for part in (effects, placebos, against_applicants))
        row |= {name: _count(sums, side) for name, (sums, side) in {
            "matched_funded_count": (effect, "funded"), "unfunded_count": (effect, "unfunded"),
            "placebo_funded_count": (placebo, "funded"), "applicants_count": (applicants, "unfunded"),
        }.items()}  # fmt: skip
        measured = _ratio_of_enough(effect)
        if effect is None or measured is None:
            yield group, row, []
            continue
        before = _named("placebo", _ratio_of_enough(placebo))
        differs = bool(before) and not before["placebo_low"] <= 1 <= before["placebo_high"]
        row |= before
        row["status"] = "trends_differ" if differs else "estimated"
        row |= {"p_value": measured.p_value()} | _means(effect)
        if not differs:
            row |= _named("effect", measured) | _named("applicants_effect", _ratio_of_enough(applicants))
        yield group, row, list(_months(window, effect, measured, only_before=differs))


COUNTS = (
    "funded_count", "existed_before_count", "matched_funded_count", "unfunded_count", "placebo_funded_count",
    "applicants_count",
)  # fmt: skip


def _total(parts: Mapping[str, Sums], programmes: Sequence[str]) -> Sums | None:
    """The sums of several programmes; None when none of them funded anybody who is compared."""
    present = [parts[programme] for programme in programmes if programme in parts]
    return reduce(operator.add, present) if present else None


def _count(sums: Sums | None, side: str) -> int:
    if sums is None:
        return 0
    return int(sums.funded[0]) if side == "funded" else int(sums.unfunded.sum())


def _ratio_of_enough(sums: Sums | None) -> Ratio | None:
    """The ratio, where there are enough enterprises on both sides."""
    if min(_count(sums, "funded"), _count(sums, "unfunded")) < MIN_ENTERPRISES:
        return None
    return ratio(sums) if sums else None


def _named(name: str, measured: Ratio | None) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), measured.interval(), strict=True)) if measured else {}


def _means(sums: Sums) -> dict[str, float]:
    """Means of an enterprise and what was paid in all, in HKD."""
    count = int(sums.funded[0])
    totals = {
        "funded_before_hkd": sums.before,
        "funded_after_hkd": sums.sold[0],
        "unfunded_before_hkd": sums.unfunded_before,
        "unfunded_after_hkd": sums.unfunded_after,
    }
    return {name: round(float(total) / count, 2) for name, total in totals.items()} | {"paid_hkd": round(sums.paid, 2)}


def _months(window: int, sums: Sums, measured: Ratio, *, only_before: bool) -> Iterator[dict[str, Any]]:
    """Event months in which enough enterprises are known, with bands."""
    low, high = measured.bands()
    for column, month in enumerate(event_months(window), start=1):
        is_shown = (
            sums.funded[column] >= MIN_ENTERPRISES and np.isfinite(low[column]) and not (only_before and month >= 0)
        )
        if is_shown:
            yield {
                "event_month": month,
                "effect": float(np.exp(measured.log[column])),
                "band_low": float(low[column]),
                "band_high": float(high[column]),
                "funded_count": int(sums.funded[column]),
            }


def _shown_together(rows: list[dict[str, Any]], effects: Mapping[str, Sums], window: int) -> list[dict[str, Any]]:
    """Those of the rows of event months that give away no group of few, nor one that is nearly all of one enterprise.

    A group of many less its parts may be such a group.
    """
    counts: dict[int, dict[str, int]] = {}
    for row in rows:
        counts.setdefault(row["event_month"], {})[row["programme"]] = row["funded_count"]
    columns = {month: column for column, month in enumerate(event_months(window), start=1)}
    shown = {
        month: groups_shown(of_month, partial(_is_of_one, effects, columns[month]))
        for month, of_month in counts.items()
    }
    return [row for row in rows if row["programme"] in shown[row["event_month"]]]


def groups_shown(counts: Mapping[str, int], is_of_one: Callable[[frozenset[str]], bool]) -> frozenset[str]:
    """Of groups with so many funded, those to show: what each has less its parts shown is of none or of enough.

    `is_of_one`: whether one enterprise has nearly all that those of some programmes have. Of all ways the one with the
    largest group, then with the next: a part goes rather than the whole.
    """
    is_hidden = cache(is_of_one)
    ways = (frozenset(way) for size in range(len(counts) + 1) for way in combinations(counts, size))
    return max(
        (
            way
            for way in ways
            if all(rest == 0 or (rest >= MIN_ENTERPRISES and not is_hidden(of)) for of, rest in _rests(way, counts))
        ),
        key=lambda way: sorted((counts[group] for group in way), reverse=True),
    )


def _rests(shown: frozenset[str], counts: Mapping[str, int]) -> Iterator[tuple[frozenset[str], int]]:
    """For each group: the programmes that are in no group shown that is a part of it, and how many funded they have."""
    for group in shown:
        parts = [part for part in shown if _is_part(part, group)]
        largest = [part for part in parts if not any(_is_part(part, larger) for larger in parts)]
        of = frozenset(GROUPS[group]).difference(*(GROUPS[part] for part in largest))
        yield of, counts[group] - sum(counts[part] for part in largest)


def _is_of_one(effects: Mapping[str, Sums], column: int, programmes: frozenset[str]) -> bool:
    """Whether one enterprise has nearly all of what those of some programmes sold in a column, or were expected to sell."""
    parts = [effects[programme] for programme in programmes if programme in effects]
    each = [(part.without_sold[:, column], part.without_expected[:, column]) for part in parts]
    total = [(part.sold[column], part.expected[column]) for part in parts]
    return any(
        bool(np.sum(of_each, axis=0).max() > MOST_OF_ONE * np.sum(of_all))
        for of_each, of_all in zip(zip(*each, strict=True), zip(*total, strict=True), strict=True)
    )


def _is_part(group: str, of: str) -> bool:
    return {*GROUPS[group]} < {*GROUPS[of]}


def _adjust(rows: list[dict[str, Any]]) -> None:
    """Adds what the p-values of the estimated rows are when all are looked at (Holm)."""
    from statsmodels.stats.multitest import multipletests

    tested = [row for row in rows if "p_value" in row]
    if tested:
        for row, adjusted in zip(
            tested, multipletests([row["p_value"] for row in tested], method="holm")[1], strict=True
        ):
            row["p_value_adjusted"] = float(adjusted)
    for row in tested:
        if row["status"] != "estimated":
            del row["p_value"], row["p_value_adjusted"]


def _inputs(read: Callable[[str], pa.Table], schema: str) -> dict[str, tuple[Sales, dict[int, Funded]]]:
    """Sales and the funded of each measure that has a month, from the models in a schema."""

    def table(name: str, *columns: str) -> pd.DataFrame:
        found: pd.DataFrame = read(f"select {', '.join(columns)} from {schema}.int_{name}").to_pandas(
            date_as_object=True
        )
        return found

    spans = table("funding__outcome_spans", "measure", "first_month", "last_month")
    sold = table(
        "funding__outcome_panel",
        "measure",
        "sme_id",
        "month",
        "value_hkd",
    )
    classes = table(
        "sme__classes", "sme_id", "valid_from", "valid_to", "industry_section", "sme_class", "counts_as_sme",
        "commencement_date", "cessation_date",
    )  # fmt: skip
    applicants = table("funding__applicants", "sme_id", "applied_month", "start_month")
    funded = table(
        "funding__outcome_enterprises", "measure", "window_months", "sme_id", "programme", "applied_month", "start_month",
        "existed_before", "paid_hkd", "exclusion",
    )  # fmt: skip
    funded = funded[funded["exclusion"].isna()]
    found = {}
    for span in spans.itertuples():
        of_measure = sold[sold["measure"] == span.measure]
        sales, position = _sales(span.first_month, span.last_month, of_measure, classes, applicants)
        found[span.measure] = (
            sales,
            {
                window: _funded(
                    funded[(funded["measure"] == span.measure) & (funded["window_months"] == window)], sales, position
                )
                for window in WINDOWS
            },
        )
    return found


def _sales(
    first_month: date, last_month: date, sold: pd.DataFrame, classes: pd.DataFrame, applicants: pd.DataFrame
) -> tuple[Sales, pd.Index]:
    """Sales of the enterprises that sold anything, and their sme_ids in that order."""
    import pandas as pd

    position = pd.Index(sold["sme_id"].unique()).intersection(pd.Index(classes["sme_id"].unique()))
    sold, classes, applicants = (part[part["sme_id"].isin(position)] for part in (sold, classes, applicants))
    count, months = len(position), _month(last_month) - _month(first_month) + 1

    def since_first(days: pd.Series[Any], missing: int) -> Whole:
        dates = pd.to_datetime(days)
        since = (dates.dt.year * 12 + dates.dt.month - 1 - _month(first_month)).fillna(missing)
        return np.asarray(since, np.int64)

    monthly = np.zeros((count, months))
    monthly[position.get_indexer(sold["sme_id"]), since_first(sold["month"], 0)] = sold["value_hkd"]
    applied, has_applied = np.full(count, NEVER), np.zeros(count, bool)
    who = position.get_indexer(applicants["sme_id"])
    applied[who], has_applied[who] = since_first(applicants["applied_month"], NEVER), True
    exists_from, ends = np.zeros(count, np.int64), np.zeros(count, np.int64)
    who = position.get_indexer(classes["sme_id"])
    # The month of the day before, and one: a business that began on the first day of a month exists in the whole of it.
    before = pd.to_datetime(classes["commencement_date"]) - pd.Timedelta(days=1)
    exists_from[who] = since_first(before, -NEVER) + 1
    ends[who] = since_first(classes["cessation_date"], NEVER)
    narrow, wide = classes["industry_section"] + " " + classes["sme_class"], classes["industry_section"]
    codes = [np.where(classes["counts_as_sme"].astype(bool), pd.factorize(names)[0], -1) for names in (narrow, wide)]
    strata = [np.full((count, months), -1) for _ in codes]
    valid_from, valid_to = pd.to_datetime(classes["valid_from"]), pd.to_datetime(classes["valid_to"])
    for month, day in enumerate(pd.date_range(first_month, periods=months, freq="MS")):
        in_force = ((valid_from <= day) & (valid_to.isna() | (valid_to >= day))).to_numpy()
        for stratum, code in zip(strata, codes, strict=True):
            stratum[who[in_force], month] = code[in_force]
    return Sales(first_month, monthly, applied, has_applied, exists_from, ends, strata), position


def _funded(rows: pd.DataFrame, sales: Sales, position: pd.Index) -> Funded:
    return Funded(
        position.get_indexer(rows["sme_id"]),
        np.array([_month(day) for day in rows["applied_month"]], np.int64) - _month(sales.first_month),
        np.array([_month(day) for day in rows["start_month"]], np.int64) - _month(sales.first_month),
        rows["programme"].to_numpy(str),
        rows["paid_hkd"].to_numpy(float),
        rows["existed_before"].to_numpy(bool),
    )


def _month(day: date) -> int:
    """Months since year 0."""
    return day.year * 12 + day.month - 1
