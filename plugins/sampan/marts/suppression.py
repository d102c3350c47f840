"""Cell suppression: which cells of a published table are left out, so that it discloses nothing about one enterprise.

A cell is suppressed when too few enterprises contribute to it or one of them dominates it (primary suppression). Sums are
published too, so other cells have to be suppressed with it (secondary suppression): for each primary cell there has to be a
way to change its value by its protection and to restore every sum by changing suppressed cells only, none below zero. Then an
attacker who knows everything that is published can only infer an interval at least as wide as the protection. A cell with
one contributor is used for that only when no other can be: its enterprise knows its value.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Mapping
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


def suppressed(cells: Mapping[Key, Cell], rule: SuppressionRule) -> dict[Key, str]:
    """Which cells of a two-dimensional table are suppressed, and why: "primary" or "secondary".

    `cells` has every cell that is not zero, by row and column, with the sums under `*`. Raises PermanentFailure when the sums
    of a cell are missing, the only case in which it cannot be protected.
    """
    found = {key: "primary" for key, cell in cells.items() if rule.is_primary(cell)}
    network = _network(cells)
    # The hardest first: cells that protect them often protect the rest.
    for key in sorted(found, key=lambda key: (-rule.protection(cells[key]), key)):
        by = rule.protection(cells[key])
        path = _cheapest_cycle(cells, network, found, key, by)
        path = path or _cheapest_cycle(cells, network, found, key, by, single=True)
        if path is None:
            message = f"cell {key} cannot be protected: it is not part of its table's sums"
            raise PermanentFailure(Problem(Code.DISCLOSURE_UNPROTECTED, message))
        for other in path:
            found.setdefault(other, "secondary")
    return found


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
            price = 0.0 if other in out else 1 + math.sqrt(cell.value) * (TOTAL_COSTS if TOTAL in other else 1)
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
    rules = {row[0]: SuppressionRule(row[1], *map(float, row[2:])) for row in connection.execute(rules_query)}
    tables: dict[tuple[Any, ...], dict[Key, Cell]] = defaultdict(dict)
    for table, series, period, row, column, value, contributors, largest in connection.execute(cells_query):
        tables[table, series, period][row, column] = Cell(float(value), contributors, float(largest))
    found = [
        (build_no, *table, *key, reason)
        for table, cells in tables.items()
        for key, reason in suppressed(cells, rules[table[0]]).items()
    ]
    with connection.transaction():
        connection.execute("delete from ops.suppression where build_no = %s", [build_no])
        with connection.cursor().copy(
            "copy ops.suppression (build_no, table_name, series, period, row_key, column_key, reason) from stdin"
        ) as copy:
            for line in found:
                copy.write_row(line)
    return len(found)
