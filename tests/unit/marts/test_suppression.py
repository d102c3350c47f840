"""Attacks on tables with suppressed cells: what can be inferred from everything published, by linear programming."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from sampan.errors import PermanentFailure
from sampan.marts.suppression import TOTAL, Cell, Key, SuppressionRule, _network, _sign, suppressed
from scipy.optimize import linprog

COUNTS = SuppressionRule(min_contributors=5, max_share=1, min_uncertainty=0, protected_share=0, protected_least=5)
VALUES = SuppressionRule(
    min_contributors=5, max_share=0.75, min_uncertainty=0.1, protected_share=0.1, protected_least=0
)


Shares = dict[Key, dict[str, float]]


def table(seed: int, rows: int, columns: int, enterprises: int, counts: bool) -> tuple[dict[Key, Cell], Shares]:
    """A table with its sums, and who contributes what to each cell and sum. A few of its enterprises are large."""
    generator = np.random.default_rng(seed)
    shares: Shares = defaultdict(lambda: defaultdict(float))
    for enterprise in range(enterprises):
        for _ in range(1 if counts else 1 + generator.poisson(2)):
            row, column = (str(int(generator.beta(1, 3) * size)) for size in (rows, columns))
            value = 1 if counts else float(np.round(generator.lognormal(10, 2), 2))
            for key in ((row, column), (row, TOTAL), (TOTAL, column), (TOTAL, TOTAL)):
                shares[key][str(enterprise)] += value
    return {key: cell_of(of) for key, of in shares.items()}, shares


def concentrated(seed: int, rows: int, columns: int, enterprises: int, one_in: int) -> tuple[dict[Key, Cell], Shares]:
    """A table in which one in so many enterprises is 200 times as large, and each is mostly in one row."""
    generator = np.random.default_rng(seed)
    shares: Shares = defaultdict(lambda: defaultdict(float))
    for enterprise in range(enterprises):
        home = int(generator.beta(1, 2) * rows)
        for _ in range(2 + generator.poisson(3)):
            row = str(home if generator.random() < 0.8 else int(generator.beta(1, 2) * rows))
            column = str(int(generator.beta(1, 2) * columns))
            value = float(np.round(generator.lognormal(10, 1) * (1 if enterprise % one_in else 200), 2))
            for key in ((row, column), (row, TOTAL), (TOTAL, column), (TOTAL, TOTAL)):
                shares[key][str(enterprise)] += value
    return {key: cell_of(of) for key, of in shares.items()}, shares


def cell_of(shares: dict[str, float], others: dict[str, float] | None = None) -> Cell:
    return Cell.of(shares, others)


def is_protected(cell: Cell, rule: SuppressionRule, low: float, high: float, is_sum: bool = False) -> bool:
    """Whether an interval reaches as far on both sides of a value as it has to. A value ends at zero; a sum goes as far down
    as one of its cells."""
    by = rule.protection(cell)
    down = cell.value - min(by, cell.value) * 0.999 + 0.01 if not is_sum else cell.value * 0.9999
    return high >= cell.value + by * 0.999 and low <= down


def together(shares: Shares, keys: Iterable[Key]) -> Cell:
    """Cells and sums as one cell."""
    added: dict[str, float] = defaultdict(float)
    for key in keys:
        for enterprise, share in shares[key].items():
            added[enterprise] += share
    return cell_of(added)


def parts(shares: Shares) -> Shares:
    """What the platform is told: sums it can add up."""
    return {key: of for key, of in shares.items() if TOTAL not in key}


def intervals(
    cells: dict[Key, Cell], out: set[Key], known: set[Key] = frozenset(), wanted: set[Key] | None = None
) -> Iterator[tuple[Key, float, float]]:
    """Smallest and largest possible value of each suppressed cell, for an attacker who knows the rest and `known`."""
    chosen = [key for key in sorted(out - known) if wanted is None or key in wanted]
    for (key,), low, high in intervals_together(cells, out - known, [(key,) for key in chosen]):
        yield key, low, high


def intervals_together(
    cells: dict[Key, Cell], out: set[Key], unions: Iterable[tuple[Key, ...]]
) -> Iterator[tuple[tuple[Key, ...], float, float]]:
    """The same for the sum of the cells of each union."""
    place = {key: number for number, key in enumerate(sorted(out))}
    scale = max(cell.value for cell in cells.values())
    equations, results = [], []
    for node, members in _network(cells).items():
        line, rest = np.zeros(len(place)), 0.0
        for key in members:
            if key in place:
                line[place[key]] = _sign(key, node)
            else:
                rest -= _sign(key, node) * cells[key].value / scale
        if line.any():
            equations.append(line)
            results.append(rest)
    for union in unions:
        found = []
        for direction in (1, -1):
            aim = np.zeros(len(place))
            aim[[place[key] for key in union]] = direction
            answer = linprog(aim, A_eq=np.array(equations), b_eq=np.array(results), bounds=(0, None), method="highs")
            assert answer.status in (0, 3), answer.message
            found.append(np.inf if answer.status == 3 else direction * answer.fun * scale)
        yield union, found[0], abs(found[1])


CASES = [
    *((seed, 18, 5, size, True) for seed, size in enumerate((30, 200, 600, 1500))),
    *((seed, 25, 20, size, False) for seed, size in enumerate((20, 80, 300, 1200), start=10)),
    (20, 1, 1, 3, True),
    (21, 1, 6, 40, True),
    (22, 3, 1, 1, False),
]


@pytest.mark.parametrize("case", CASES, ids=[f"{rows}x{cols} of {n}" for _, rows, cols, n, _ in CASES])
def test_no_cell_that_is_left_out_can_be_reckoned_from_what_is_published(case):
    (cells, shares), rule = table(*case), COUNTS if case[-1] else VALUES
    out = suppressed(cells, rule, parts(shares))
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
        assert out[key] != "primary" or is_protected(cells[key], rule, low, high, TOTAL in key), (key, cells[key], low, high)
        checked += 1
    assert checked == len(out)


def hidden_by_node(cells: dict[Key, Cell], out: Iterable[Key]) -> Iterator[tuple[Key, tuple[Key, ...]]]:
    """Sum, and cells left out, of each row and column with two of them or more."""
    for node, members in _network(cells).items():
        (total,) = (key for key in members if _sign(key, node) < 0)
        hidden = tuple(key for key in members if key in out and key != total)
        if len(hidden) > 1:
            yield total, hidden


# Tables in which cells left out one by one added up, row by row and across, to figures that the rules forbid.
CONCENTRATED = [(seed, *((12, 8, 400, 25), (10, 10, 800, 60))[seed % 4]) for seed in (0, 9, 13, 21, 24, 29)]


def tables() -> Iterator[tuple[dict[Key, Cell], Shares, SuppressionRule, dict[Key, str]]]:
    """Each table with what protects it and what is left out."""
    made = [(*table(*case), COUNTS if case[-1] else VALUES) for case in CASES]
    made += [(*concentrated(*case), VALUES) for case in CONCENTRATED]
    for cells, shares, rule in made:
        yield cells, shares, rule, suppressed(cells, rule, parts(shares))


def test_a_sum_less_its_shown_cells_discloses_no_enterprise():
    """Kind of fault: cells are protected one by one, and what they are together is a figure that the rules forbid."""
    unions = 0
    for cells, shares, rule, out in tables():
        for total, hidden in hidden_by_node(cells, out):
            # An enterprise that is alone in a cell can subtract it, too.
            for union in (hidden, tuple(key for key in hidden if cells[key].contributors > 1)):
                unions += 1
                if len(union) < 2 or not rule.is_primary(together(shares, union)):
                    continue
                assert total in out, (total, union)
                ((_, low, high),) = intervals_together(cells, set(out), [union])
                assert is_protected(together(shares, union), rule, low, high, is_sum=True)
    assert unions > 500


def test_no_sum_of_cells_left_out_that_follows_from_several_shown_sums_is_of_one_enterprise():
    """Kind of fault: rows less columns tell more than each row and column does."""
    for cells, shares, rule, out in tables():
        assert list(dominated_unions(cells, shares, set(out), rule)) == []


def dominated_unions(
    cells: dict[Key, Cell], shares: Shares, out: set[Key], rule: SuppressionRule
) -> Iterator[tuple[str, list[Key]]]:
    """Enterprise, and cells left out whose exact sum follows from what is shown and in which it dominates.

    Rows less columns, in any choice, are what can be added up. As arcs from its row to its column, a sum's from its column to
    its row, cells are a circulation: a set of rows and columns that no arc left out enters tells the sum of those that leave.
    The set that is worst for an enterprise is a linear programme whose corners are whole numbers.
    """
    nodes = {node: number for number, node in enumerate(_network(cells))}
    arcs = {key: (("row", key[0]), ("column", key[1])) for key in sorted(out)}
    arcs |= {key: tuple(reversed(ends)) for key, ends in arcs.items() if (TOTAL in key) and key != (TOTAL, TOTAL)}
    lines = np.zeros((len(arcs), len(nodes)))
    for line, (start, end) in zip(lines, arcs.values(), strict=True):
        line[nodes[start]], line[nodes[end]] = 1, -1
    values = np.array([cells[key].value for key in arcs])
    for enterprise in sorted({of for key in arcs for of in shares[key]}):
        excess = np.array([shares[key].get(enterprise, 0) for key in arcs]) - rule.max_share * values
        if not len(arcs) or excess.max() <= 0:
            continue
        answer = linprog(
            -(excess / values.max()) @ lines, A_ub=-lines, b_ub=np.zeros(len(arcs)), bounds=(0, 1), method="highs"
        )
        assert answer.status == 0, answer.message
        if -answer.fun > 1e-7:
            yield enterprise, [key for key, out_of in zip(arcs, lines @ answer.x, strict=True) if out_of > 0.5]


def test_two_dominated_cells_of_one_enterprise_do_not_add_up_to_a_dominated_sum():
    """The review's table: row 61 hid {X 95, Z 5} and {X 90, Y 10}, and its sum less its shown cells told X within 8%."""
    shares: Shares = {
        ("61", "a"): {"X": 95, "Z": 5},
        ("61", "b"): {"X": 90, "Y": 10},
        **{("61", column): dict.fromkeys("ABCDEF", 40) for column in "cd"},
        **{("62", column): dict.fromkeys("ABCDEF", 30) for column in "abcd"},
    }
    for (row, column), of in list(shares.items()):
        for key in ((row, TOTAL), (TOTAL, column), (TOTAL, TOTAL)):
            at = shares.setdefault(key, {})
            for name, share in of.items():
                at[name] = at.get(name, 0) + share
    cells = {key: cell_of(of) for key, of in shares.items()}
    out = suppressed(cells, VALUES, parts(shares))
    assert {key for key, why in out.items() if why == "primary"} == {("61", "a"), ("61", "b")}
    assert ("61", TOTAL) not in out
    assert not VALUES.is_primary(together(shares, [key for key in out if key[0] == "61"]))
    assert any(shares[key] and key not in out for key in shares if key[0] == "61" and key[1] in "cd"), (
        "no more than needed"
    )


def test_the_attack_finds_a_cell_that_only_its_own_smallness_hides():
    cells, _ = table(2, 18, 5, 600, counts=True)
    primary = {key for key in cells if COUNTS.is_primary(cells[key])}
    widths = [high - low for _, low, high in intervals(cells, primary)]
    assert min(widths) < 1


def test_an_enterprise_that_knows_its_own_cells_learns_of_no_other():
    cells, shares = table(3, 18, 5, 1500, counts=True)
    out = suppressed(cells, COUNTS, parts(shares))
    alone = {key for key in out if cells[key].contributors == 1}
    others = {key for key, why in out.items() if why == "primary"} - alone
    assert len(alone) >= 3
    assert len(others) >= 3
    for key, low, high in intervals(cells, set(out), alone, others):
        assert is_protected(cells[key], COUNTS, low, high, TOTAL in key), key


def test_a_dominated_cell_is_left_out_and_an_even_one_stays():
    assert VALUES.is_primary(Cell(100, 9, 76))
    assert not VALUES.is_primary(Cell(100, 9, 75))
    assert VALUES.is_primary(Cell(100, 4, 25))
    assert not COUNTS.is_primary(Cell(5, 5, 1))


def test_nothing_is_left_out_when_no_cell_is_small():
    cells = {key: Cell(100, 50, 10) for key in (("a", "x"), ("a", TOTAL), (TOTAL, "x"), (TOTAL, TOTAL))}
    assert suppressed(cells, VALUES, {}) == {}


def test_sums_stay_when_cells_can_take_their_place():
    cells, shares = table(3, 18, 5, 1500, counts=True)
    out = suppressed(cells, COUNTS, parts(shares))
    assert (TOTAL, TOTAL) not in out
    assert sum(cells[key].value for key in out if TOTAL not in key) < 0.35 * cells[TOTAL, TOTAL].value


def test_a_table_without_its_sums_is_refused():
    with pytest.raises(PermanentFailure, match="is not part of its table's sums"):
        suppressed({("a", "x"): Cell(1, 1, 1)}, COUNTS, {})
