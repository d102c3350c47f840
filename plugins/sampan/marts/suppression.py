"""Cell suppression: which cells of a published table are left out, so that it discloses nothing about one enterprise.

A cell is suppressed when too few enterprises contribute to it or one of them dominates it (primary suppression). Sums are
published too, so other cells have to be suppressed with it (secondary suppression): for each primary cell there has to be a
way to change its value by its protection and to restore every sum by changing suppressed cells only, none below zero. Then an
attacker who knows everything that is published can only infer an interval at least as wide as the protection. A cell with
one contributor is used for that only when no other can be: its enterprise knows its value.

A sum that is shown less its cells that are shown is the value of its suppressed cells together. That union must not be what a
cell may not be, with few contributors or a dominant one: cells are added to it until it is not.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from sampan.database import Connection
from sampan.errors import Code, PermanentFailure, Problem

TOTAL = "*"
# A sum is worth more to readers than a cell: it is suppressed only when no cell can be suppressed instead.
TOTAL_COSTS = 1e6

Key = tuple[str, str]
Node = tuple[str, str]
# What each enterprise contributes to the cells that are not sums.
Contributions = Mapping[Key, Mapping[str, float]]


@dataclass(frozen=True)
class SuppressionRule:
    """How the cells of a table are protected. Shares are between 0 and 1."""

    min_contributors: int
    max_share: float
    protected_share: float
    protected_least: float

    def is_primary(self, cell: Cell) -> bool:
        """Whether the cell alone discloses something about one enterprise."""
        dominated = cell.contributors > 1 and cell.largest > self.max_share * cell.value
        return cell.contributors < self.min_contributors or dominated

    def protection(self, cell: Cell) -> float:
        """Minimum width of the interval that an attacker may infer, in the unit of the value."""
        return max(self.protected_share * cell.value, self.protected_least)


@dataclass(frozen=True)
class Cell:
    """One cell, or a sum: its value, how many enterprises contribute to it, and the largest of their contributions."""

    value: float
    contributors: int
    largest: float


def suppressed(cells: Mapping[Key, Cell], rule: SuppressionRule, contributions: Contributions) -> dict[Key, str]:
    """Which cells of a two-dimensional table are suppressed, and why: "primary" or "secondary".

    `cells` has every cell that is not zero, by row and column, with the sums under `*`. Raises PermanentFailure when the sums
    of a cell are missing, the only case in which it cannot be protected.
    """
    found = {key: "primary" for key, cell in cells.items() if rule.is_primary(cell)}
    network = _network(cells)
    # The hardest first: cells that protect them often protect the rest.
    for key in sorted(found, key=lambda key: (-rule.protection(cells[key]), key)):
        for other in _cells_that_protect(cells, network, found, key, rule.protection(cells[key])):
            found.setdefault(other, "secondary")
    nodes = sorted(network)
    while nodes:
        added = _cells_to_widen(cells, network, found, nodes[-1], rule, contributions)
        if not added:
            nodes.pop()
        for key in added:
            found[key] = "secondary"
            nodes += _nodes(key)
    return found


def _cells_that_protect(
    cells: Mapping[Key, Cell], network: Mapping[Node, list[Key]], out: Mapping[Key, str], key: Key, by: float
) -> list[Key]:
    """The cheapest cells that have to be suppressed with `key`, so that it may grow by `by`."""
    path = _cheapest_cycle(cells, network, out, key, by) or _cheapest_cycle(cells, network, out, key, by, single=True)
    if path is None:
        message = f"cell {key} cannot be protected: it is not part of its table's sums"
        raise PermanentFailure(Problem(Code.DISCLOSURE_UNPROTECTED, message))
    return path


def _cells_to_widen(
    cells: Mapping[Key, Cell],
    network: Mapping[Node, list[Key]],
    out: Mapping[Key, str],
    node: Node,
    rule: SuppressionRule,
    contributions: Contributions,
) -> list[Key]:
    """The cheapest cells to add when the suppressed cells of a row or column disclose something together.

    If their sum is suppressed too, what they are together is known as well as the sum is: that has to vary by the protection.
    """
    hidden = [key for key in network[node] if key in out and _sign(key, node) > 0]
    total = next((key for key in network[node] if _sign(key, node) < 0), None)
    # An enterprise that is alone in a cell can subtract it.
    for keys in (hidden, [key for key in hidden if cells[key].contributors > 1]):
        together = _together(cells, network, keys, rule, contributions)
        if len(keys) < 2 or not rule.is_primary(together):
            continue
        ways = []
        for key in [total] if total in out else [key for key in network[node] if key not in out]:
            way = {key, *_cells_that_protect(cells, network, out, key, rule.protection(together))} - out.keys()
            wider = [*keys, *(other for other in network[node] if other in way)]
            is_enough = total in wider or not rule.is_primary(_together(cells, network, wider, rule, contributions))
            ways.append((not is_enough, sum(_price(cells, other) for other in way), sorted(way)))
        if ways and min(ways)[2]:
            return min(ways)[2]
    return []


def _together(
    cells: Mapping[Key, Cell],
    network: Mapping[Node, list[Key]],
    keys: Sequence[Key],
    rule: SuppressionRule,
    contributions: Contributions,
) -> Cell:
    """Cells of one row or column as one cell. Contributors are added up only where it matters for the rule."""
    value = sum(cells[key].value for key in keys)
    at_least = max((cells[key].contributors for key in keys), default=0)
    bounds = Cell(value, at_least, sum(cells[key].largest for key in keys))
    if not rule.is_primary(bounds):
        return bounds
    shares: dict[str, float] = defaultdict(float)
    for key in keys:
        node = _nodes(key)[key[0] == TOTAL]
        for part in network[node] if TOTAL in key else [key]:
            for enterprise, share in contributions.get(part, {}).items():
                shares[enterprise] += share
    return Cell(value, len(shares), max(shares.values(), default=0))


def _price(cells: Mapping[Key, Cell], key: Key) -> float:
    """What it costs readers that a cell is suppressed."""
    return 1 + math.sqrt(cells[key].value) * (TOTAL_COSTS if TOTAL in key else 1)


def _network(cells: Mapping[Key, Cell]) -> dict[Node, list[Key]]:
    """The cells of each row and column, with its sum. Rows and columns are the nodes of a graph, cells its edges."""
    network: dict[Node, list[Key]] = defaultdict(list)
    for key in sorted(cells):
        for node in _nodes(key):
            network[node].append(key)
    return network


def _nodes(key: Key) -> tuple[Node, Node]:
    return ("row", key[0]), ("column", key[1])


def _sign(key: Key, node: Node) -> int:
    """Sign of the cell in the equation `cells - sum = 0` of a row or a column."""
    return -1 if key[1 if node[0] == "row" else 0] == TOTAL else 1


def _cheapest_cycle(
    cells: Mapping[Key, Cell],
    network: Mapping[Node, list[Key]],
    out: Mapping[Key, str],
    key: Key,
    by: float,
    single: bool = False,
) -> list[Key] | None:
    """The cheapest cells whose change restores all sums when `key` grows by `by`; None when there are none.

    A growing cell breaks the equations of its row and its column. Each step restores one equation by changing one cell, which
    breaks the cell's other equation, until the equation of the column of `key` holds again. Each equation is visited with one
    sign only, so no cell changes twice. Cells with one contributor take part only if `single`.
    """
    start, end = _nodes(key)
    queue: list[tuple[float, Node, int, tuple[Key, ...]]] = [(0.0, start, _sign(key, start), ())]
    seen: set[Node] = set()
    while queue:
        cost, node, surplus, path = heapq.heappop(queue)
        if node == end and surplus == -_sign(key, end):
            return list(path)
        if node in seen:
            continue
        seen.add(node)
        for other in network[node]:
            cell = cells[other]
            change = -surplus * _sign(other, node)
            if other == key or (cell.contributors == 1 and not single) or (change < 0 and cell.value < by):
                continue
            first, second = _nodes(other)
            beyond = second if node == first else first
            price = 0.0 if other in out else _price(cells, other)
            heapq.heappush(queue, (cost + price, beyond, change * _sign(other, beyond), (*path, other)))
    return None


def run(connection: Connection, schema: str = "intermediate", build_no: int = 0) -> int:
    """Decide which cells of each published table are suppressed, and store them. Returns how many.

    `schema` holds the cells and the rules; marts as known on a date have their own `build_no`, the current build has 0.
    """
    rules_query = sql.SQL("""
        select table_name, min_contributors, max_share, protected_share, protected_least from {}
    """).format(sql.Identifier(schema, "disclosure_rules"))
    cells_query = sql.SQL("""
        select table_name, series, period, row_key, column_key, value, contributor_count, largest_value
        from {}
        where value > 0
    """).format(sql.Identifier(schema, "int_published__cells"))
    contributions_query = sql.SQL("""
        select table_name, series, period, row_key, column_key, sme_id, value from {}
    """).format(sql.Identifier(schema, "int_published__contributions"))
    rules = {row[0]: SuppressionRule(row[1], *map(float, row[2:])) for row in connection.execute(rules_query)}
    tables: dict[tuple[Any, ...], dict[Key, Cell]] = defaultdict(dict)
    for table, series, period, row, column, value, contributors, largest in connection.execute(cells_query):
        tables[table, series, period][row, column] = Cell(float(value), contributors, float(largest))
    shares: dict[tuple[Any, ...], dict[Key, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for table, series, period, row, column, enterprise, value in connection.execute(contributions_query):
        shares[table, series, period][row, column][enterprise] = float(value)
    found = [
        (build_no, *table, *key, reason)
        for table, cells in tables.items()
        for key, reason in suppressed(cells, rules[table[0]], shares[table]).items()
    ]
    with connection.transaction():
        connection.execute("delete from ops.suppression where build_no = %s", [build_no])
        with connection.cursor().copy(
            "copy ops.suppression (build_no, table_name, series, period, row_key, column_key, reason) from stdin"
        ) as copy:
            for line in found:
                copy.write_row(line)
    return len(found)
