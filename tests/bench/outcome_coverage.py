"""How often the intervals of funding outcomes hold the truth, on simulated panels of known truth (ADR 0022).

    .venv/bin/python -m tests.bench.outcome_coverage --runs 400

prints a table: for each kind of panel the bias, the spread of the estimates and their mean standard error (of logarithms),
and in how many of 100 runs the 95% intervals of effect and placebo, and the bands of all event months at once, hold the
truth. All panels are synthetic.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
from sampan.marts import outcomes

WINDOW, MONTHS = 12, 52
# Months of application: two windows before the first, one window and the wait after the last.
APPLIED, WAIT = (24, 34), 4
# Strata grow differently, and more of the fast ones are funded.
GROWTH, PART_OF_FUNDED, PART_OF_OTHERS = (0.03, 0.10, -0.05), (0.5, 0.4, 0.1), (0.6, 0.2, 0.2)


@dataclass(frozen=True)
class Kind:
    """A kind of panel.

    Funded enterprises are `larger` times as large as the others. Sales of a month are size x growth and season of the
    stratum x exp(shock); sizes spread by `sizes` and shocks by `shocks` (standard deviations of logarithms), and a shock
    keeps `persistence` of itself from month to month. In `idle` of the months nothing is sold. The funded grow
    by `trend` a year (logarithm) more than the others, before as after.
    """

    funded: int
    unfunded: int
    effect: float = 1.0
    larger: float = 2.0
    sizes: float = 1.0
    shocks: float = 0.6
    persistence: float = 0.5
    idle: float = 0.0
    trend: float = 0.0


KINDS = (
    Kind(80, 5000),
    Kind(80, 5000, effect=1.12),
    Kind(800, 5000),
    Kind(800, 5000, effect=1.12),
    Kind(80, 5000, persistence=0.9),
    Kind(80, 5000, effect=1.12, persistence=0.9, sizes=1.4, idle=0.3),
    Kind(800, 5000, persistence=0.9),
    Kind(24, 250, effect=1.12, persistence=0.9),
)


def panel(kind: Kind, seed: int) -> tuple[outcomes.Sales, outcomes.Funded]:
    """Sales of 52 months, and who was funded; the effect begins in the month after the start of the project."""
    generator = np.random.default_rng([seed, kind.funded, kind.unfunded])
    count, months = kind.funded + kind.unfunded, np.arange(MONTHS)
    is_funded = np.arange(count) < kind.funded
    stratum = np.where(
        is_funded,
        generator.choice(len(GROWTH), count, p=PART_OF_FUNDED),
        generator.choice(len(GROWTH), count, p=PART_OF_OTHERS),
    )
    size = 1e5 * np.exp(kind.sizes * generator.standard_normal(count)) * np.where(is_funded, kind.larger, 1)
    shock = generator.standard_normal((count, MONTHS))
    for month in range(1, MONTHS):
        kept = kind.persistence * shock[:, month - 1]
        shock[:, month] = kept + np.sqrt(1 - kind.persistence**2) * shock[:, month]
    market = np.exp(np.outer(np.array(GROWTH)[stratum], months / 12)) * (1 + 0.2 * np.sin(2 * np.pi * months / 12))
    monthly = size[:, None] * market * np.exp(kind.shocks * shock)
    monthly *= generator.random((count, MONTHS)) >= kind.idle
    applied = np.full(count, outcomes.NEVER)
    applied[: kind.funded] = generator.integers(*APPLIED, kind.funded)
    start = applied[: kind.funded] + generator.integers(1, WAIT, kind.funded)
    monthly[: kind.funded] *= np.where(months > start[:, None], kind.effect, 1)
    monthly[: kind.funded] *= np.exp(kind.trend * (months - start[:, None]) / 12)
    sales = outcomes.Sales(
        date(2022, 1, 1),
        monthly,
        applied,
        np.full(count, True),
        np.full(count, -outcomes.NEVER),
        np.full(count, outcomes.NEVER),
        [np.repeat(stratum[:, None], MONTHS, axis=1)],
    )
    funded = outcomes.Funded(
        np.arange(kind.funded),
        applied[: kind.funded],
        start,
        np.full(kind.funded, "emf"),
        np.full(kind.funded, 1e5),
        np.full(kind.funded, False),
    )
    return sales, funded


def run(kind: Kind, seeds: range, *, by_month: bool = True) -> Iterator[dict[str, float]]:
    """Per run: estimate (logarithm), its standard error, and whether effect, placebo and bands hold the truth. Runs
    in which a few enterprises sell nearly everything give no estimate and are left out."""
    for seed in seeds:
        sales, funded = panel(kind, seed)
        effect = outcomes.ratio(outcomes.compare(sales, funded, WINDOW, by_month=by_month)["emf"])
        placebo = outcomes.ratio(outcomes.compare(sales, funded, WINDOW, placebo=True)["emf"])
        if effect is None or placebo is None:
            continue
        _, low, high = effect.interval()
        _, placebo_low, placebo_high = placebo.interval()
        found = {
            "estimate": float(effect.log[0]),
            "error": float(effect.error[0]),
            "covered": low <= kind.effect <= high,
            "placebo": placebo_low <= 1 <= placebo_high,
        }
        if by_month:
            band_low, band_high = effect.bands()
            months = [kind.effect if month > 0 else 1 for month in outcomes.event_months(WINDOW)]
            truth = np.array([kind.effect, *months])
            found["bands"] = bool(((band_low <= truth) & (truth <= band_high)).all())
        yield found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=400)
    runs = parser.parse_args().runs
    print(
        "| funded, others | effect | sizes | persistence | idle | bias | spread | error | effect | placebo | bands | ms |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for number, kind in enumerate(KINDS):
        began = time.perf_counter()
        found = list(run(kind, range(1000 * number, 1000 * number + runs)))
        mean = {name: np.mean([one[name] for one in found]) for name in found[0]}
        spread = np.std([one["estimate"] for one in found])
        bias = 100 * (mean["estimate"] - np.log(kind.effect))
        took = 1000 * (time.perf_counter() - began) / runs
        print(
            f"| {kind.funded}, {kind.unfunded} | {100 * (kind.effect - 1):.0f}% | {kind.sizes} | {kind.persistence} "
            f"| {kind.idle:.0%} | {bias:+.1f}% | {spread:.3f} | {mean['error']:.3f} | {100 * mean['covered']:.1f} "
            f"| {100 * mean['placebo']:.1f} | {100 * mean['bands']:.1f} | {took:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
