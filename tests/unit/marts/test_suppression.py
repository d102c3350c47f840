"""Attacks on tables with suppressed cells: what can be inferred from everything published, by linear programming."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pytest
from sampan.errors import PermanentFailure
from sampan.marts.suppression import TOTAL, Cell, Key, SuppressionRule, _network, _sign, suppressed
from scipy.optimize import linprog

COUNTS = SuppressionRule(min_contributors=5, max_share=1, protected_share=0, protected_least=5)
VALUES = SuppressionRule(min_contributors=5, max_share=0.75, protected_share=0.2, protected_least=0)


def table(seed: int, rows: int, columns: int, enterprises: int, counts: bool) -> dict[Key, Cell]:
    """A table with its sums. A few of its enterprises are large, and each contributes to some cells."""
    generator = np.random.default_rng(seed)
    shares: dict[Key, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for enterprise in range(enterprises):
        for _ in range(1 if counts else 1 + generator.poisson(2)):
            row, column = (str(int(generator.beta(1, 3) * size)) for size in (rows, columns))
            value = 1 if counts else float(np.round(generator.lognormal(10, 2), 2))
            for key in ((row, column), (row, TOTAL), (TOTAL, column), (TOTAL, TOTAL)):
                shares[key][enterprise] += value
    return {key: Cell(sum(of.values()), len(of), max(of.values())) for key, of in shares.items()}


def intervals(
    cells: dict[Key, Cell], out: set[Key], known: set[Key] = frozenset(), wanted: set[Key] | None = None
) -> Iterator[tuple[Key, float, float]]:
    """Smallest and largest possible value of each suppressed cell, for an attacker who knows the rest and `known`."""
    unknown = sorted(out - known)
    place = {key: number for number, key in enumerate(unknown)}
    scale = max(cell.value for cell in cells.values())
    equations, results = [], []
    for node, members in _network(cells).items():
        line, rest = np.zeros(len(unknown)), 0.0
        for key in members:
            if key in place:
                line[place[key]] = _sign(key, node)
            else:
                rest -= _sign(key, node) * cells[key].value / scale
        if line.any():
            equations.append(line)
            results.append(rest)
    for key in unknown:
        if wanted is not None and key not in wanted:
            continue
        found = []
        for direction in (1, -1):
            aim = np.zeros(len(unknown))
            aim[place[key]] = direction
            answer = linprog(aim, A_eq=np.array(equations), b_eq=np.array(results), bounds=(0, None), method="highs")
            assert answer.status in (0, 3), answer.message
            found.append(np.inf if answer.status == 3 else direction * answer.fun * scale)
        yield key, found[0], abs(found[1])


CASES = [
    *((seed, 18, 5, size, True) for seed, size in enumerate((30, 200, 600, 1500))),
    *((seed, 25, 20, size, False) for seed, size in enumerate((20, 80, 300, 1200), start=10)),
    (20, 1, 1, 3, True),
    (21, 1, 6, 40, True),
    (22, 3, 1, 1, False),
]


@pytest.mark.parametrize("case", CASES, ids=[f"{rows}x{cols} of {n}" for _, rows, cols, n, _ in CASES])
def test_no_cell_that_is_left_out_can_be_reckoned_from_what_is_published(case):
    cells, rule = table(*case), COUNTS if case[-1] else VALUES
    out = suppressed(cells, rule)
    assert {key for key in cells if rule.is_primary(cells[key])} == {
        key for key, why in out.items() if why == "primary"
    }
    assert "primary" in out.values()
    least = min(rule.protection(cells[key]) for key, why in out.items() if why == "primary")
    checked = 0
    for key, low, high in intervals(cells, set(out)):
        value, wide = cells[key].value, rule.protection(cells[key]) if out[key] == "primary" else least
        assert low <= value * 1.0001 + 0.01
        assert high >= value * 0.9999 - 0.01
        assert high - low >= wide * 0.999, (key, cells[key], low, high)
        checked += 1
    assert checked == len(out)


def test_the_attack_finds_a_cell_that_only_its_own_smallness_hides():
    cells = table(2, 18, 5, 600, counts=True)
    primary = {key for key in cells if COUNTS.is_primary(cells[key])}
    widths = [high - low for _, low, high in intervals(cells, primary)]
    assert min(widths) < 1


def test_an_enterprise_that_knows_its_own_cells_learns_of_no_other():
    cells = table(3, 18, 5, 1500, counts=True)
    out = suppressed(cells, COUNTS)
    alone = {key for key in out if cells[key].contributors == 1}
    others = {key for key, why in out.items() if why == "primary"} - alone
    assert len(alone) >= 3
    assert len(others) >= 3
    for key, low, high in intervals(cells, set(out), alone, others):
        assert high - low >= COUNTS.protection(cells[key]) * 0.999, key


def test_a_dominated_cell_is_left_out_and_an_even_one_stays():
    assert VALUES.is_primary(Cell(100, 9, 76))
    assert not VALUES.is_primary(Cell(100, 9, 75))
    assert VALUES.is_primary(Cell(100, 4, 25))
    assert not COUNTS.is_primary(Cell(5, 5, 1))


def test_nothing_is_left_out_when_no_cell_is_small():
    cells = {key: Cell(100, 50, 10) for key in (("a", "x"), ("a", TOTAL), (TOTAL, "x"), (TOTAL, TOTAL))}
    assert suppressed(cells, VALUES) == {}


def test_sums_stay_when_cells_can_take_their_place():
    cells = table(3, 18, 5, 1500, counts=True)
    out = suppressed(cells, COUNTS)
    assert (TOTAL, TOTAL) not in out
    assert sum(cells[key].value for key in out if TOTAL not in key) < 0.35 * cells[TOTAL, TOTAL].value


def test_a_table_without_its_sums_is_refused():
    with pytest.raises(PermanentFailure, match="is not part of its table's sums"):
        suppressed({("a", "x"): Cell(1, 1, 1)}, COUNTS)
