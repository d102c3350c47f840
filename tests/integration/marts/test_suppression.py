"""The published tables of the simulated world, attacked with nothing but what is published."""

from __future__ import annotations

from collections import Counter, defaultdict

import psycopg
import pytest
from sampan.marts.suppression import TOTAL, Cell, Key, SuppressionRule
from sampan.settings import settings

from tests.integration.world import Simulated
from tests.unit.marts.test_suppression import Shares, hidden_by_node, intervals, is_protected, together

pytestmark = pytest.mark.xdist_group("world")

TABLES = {
    "traders": ("mart_published_traders", "'all'", "industry_section", "sme_class", "enterprise_count"),
    "exports": ("mart_published_exports", "flow", "hs_chapter", "market_csd_code", "export_value_hkd"),
}
# Cells of one table that are attacked; each costs two linear programmes.
ATTACKED = 25


def truth(world: Simulated, table: str) -> tuple[SuppressionRule, dict[tuple, dict[Key, Cell]]]:
    """What the cells of a table are, by series and month, and what protects them."""
    with world.installed(), psycopg.connect(settings().dsn("builder")) as connection:
        rule = connection.execute(
            "select min_contributors, max_share, min_uncertainty, protected_share, protected_least"
            " from intermediate.disclosure_rules"
            " where table_name = %s",
            [table],
        ).fetchone()
        found: dict[tuple, dict[Key, Cell]] = defaultdict(dict)
        for series, period, row, column, value, contributors, largest, second in connection.execute(
            "select series, period, row_key, column_key, value, contributor_count, largest_value, second_value"
            " from intermediate.int_published__cells where table_name = %s and value > 0",
            [table],
        ):
            found[series, period][row, column] = Cell(float(value), contributors, float(largest), float(second or 0))
    return SuppressionRule(rule[0], *map(float, rule[1:])), found


@pytest.mark.parametrize("table", TABLES)
def test_no_cell_left_out_can_be_reckoned_from_the_published_tables(table: str, world: Simulated):
    mart, series, row, column, measure = TABLES[table]
    rule, cells = truth(world, table)
    published: dict[tuple, dict[Key, float | None]] = defaultdict(dict)
    for of, month, *key, value in world.read(
        f"select {series}, movement_month, {row}, {column}, {measure} from marts.{mart}"
    ):
        published[of, month][tuple(key)] = value
    assert published.keys() == cells.keys()
    industries = world.read("select industry_section from marts.dim_industry")
    kinds: Counter[str] = Counter()
    for where, shown in published.items():
        out = {key for key, value in shown.items() if value is None}
        # A row that is not there would say that no one declared.
        assert table != "traders" or len(shown) == len(industries) * 5
        small = {key for key, cell in cells[where].items() if rule.is_primary(cell)}
        assert small <= out
        assert all(float(value) == pytest.approx(cells[where][key].value) for key, value in shown.items() if value)
        kinds += Counter({"shown": len(shown) - len(out), "small": len(small), "others": len(out - small)})
    assert min(kinds.values()) > 50, kinds
    # The newest whole months, and the greatest tables among them.
    chosen = sorted(published, key=lambda where: (where[1], len(published[where])))[-6:-2]
    for where in chosen:
        # Cells of no enterprise are empty, too, and hide nothing.
        out = {key for key, value in published[where].items() if value is None and key in cells[where]}
        small = sorted(key for key in out if rule.is_primary(cells[where][key]))
        attacked = set(small[:: max(1, len(small) // ATTACKED)])
        for key, low, high in intervals(cells[where], out, wanted=attacked):
            assert is_protected(cells[where][key], rule, low, high, TOTAL in key), (where, key, low, high)


@pytest.mark.parametrize("table", TABLES)
def test_a_shown_sum_less_its_shown_cells_discloses_no_enterprise(table: str, world: Simulated):
    """Kind of fault: cells that are left out add up to a figure that the rules forbid."""
    mart, series, row, column, measure = TABLES[table]
    rule, cells = truth(world, table)
    shares: dict[tuple, Shares] = defaultdict(lambda: defaultdict(lambda: defaultdict(float)))
    with world.installed(), psycopg.connect(settings().dsn("builder")) as connection:
        contributions = connection.execute(
            "select series, period, row_key, column_key, sme_id, value"
            " from intermediate.int_published__contributions where table_name = %s and is_published",
            [table],
        ).fetchall()
    for of, month, one, other, enterprise, value in contributions:
        for key in ((one, other), (one, TOTAL), (TOTAL, other), (TOTAL, TOTAL)):
            shares[of, month][key][enterprise] += float(value)
    out: dict[tuple, set[Key]] = defaultdict(set)
    for of, month, *key in world.read(
        f"select {series}, movement_month, {row}, {column} from marts.{mart} where {measure} is null"
    ):
        out[of, month].add(tuple(key))
    unions = 0
    for where, hidden_cells in out.items():
        for total, hidden in hidden_by_node(cells[where], hidden_cells):
            if total not in hidden_cells:
                unions += 1
                assert not rule.is_primary(together(shares[where], hidden)), (where, total, hidden)
    assert unions > 50


def test_persons_are_no_enterprises_in_what_is_published(world: Simulated):
    shown = dict(
        world.read(
            "select movement_month, enterprise_count from marts.mart_published_traders"
            " where industry_section = '*' and sme_class = '*' and not is_suppressed"
        )
    )
    traders = (
        "select movement_month, sum(declarant_count) from marts.mart_declarants_monthly where sme_class {} 'individual'"
    )
    assert world.read(traders.format("=") + " group by movement_month")
    # Large enterprises are not published either: see ADR 0033.
    smes = " and sme_class <> 'large' group by movement_month"
    enterprises = dict(world.read(traders.format("<>") + smes))
    assert shown
    assert shown == {month: enterprises[month] for month in shown}
