"""Small cells: which cells of a published table are left out, so that nothing can be learnt of one enterprise.

A cell is left out when too few enterprises are behind it or one of them dominates it (primary). Sums are published, too, so
others have to go with it (secondary): for each primary cell there has to be a way to change it by its protection and mend
every sum by changing only cells that are left out, none of them below zero. Then whoever knows all that is published knows
no more of the cell than an interval that is at least as wide as its protection. A cell with one enterprise mends nothing
where another can: that enterprise knows its own cell and must not learn of another by it.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from sampan.errors import Code, PermanentFailure, Problem

TOTAL = "*"
# A sum tells more than a cell: it is left out only when no cell can take its place.
TOTAL_COSTS = 1e6
# The step of the build whose marts are published.
STEP = "marts__published"

Key = tuple[str, str]
Node = tuple[str, str]


@dataclass(frozen=True)
class Rule:
    """What protects the cells of a table. Shares are between 0 and 1."""

    min_contributors: int
    max_share: float
    protected_share: float
    protected_least: float

    def is_primary(self, cell: Cell) -> bool:
        """Whether the cell tells of one enterprise by itself."""
        dominated = cell.contributors > 1 and cell.largest > self.max_share * cell.value
        return cell.contributors < self.min_contributors or dominated

    def protection(self, cell: Cell) -> float:
        """How wide the interval has to be in which the value may be for all that is published."""
        return max(self.protected_share * cell.value, self.protected_least)


@dataclass(frozen=True)
class Cell:
    """One cell, or a sum: its value, how many enterprises are behind it, and the greatest of their shares in the value."""

    value: float
    contributors: int
    largest: float


def suppressed(cells: Mapping[Key, Cell], rule: Rule) -> dict[Key, str]:
    """Which cells of a table of two dimensions are left out, and why: primary or secondary.

    `cells` has every cell that is not zero by row and column, and the sums under `*`. Raises PermanentFailure when a cell
    lacks its sums, the only way in which it could not be protected.
    """
    found = {key: "primary" for key, cell in cells.items() if rule.is_primary(cell)}
    network = _network(cells)
    # The hardest first: what protects them often protects the rest.
    for key in sorted(found, key=lambda key: (-rule.protection(cells[key]), key)):
        by = rule.protection(cells[key])
        path = _way(cells, network, found, key, by) or _way(cells, network, found, key, by, single=True)
        if path is None:
            raise PermanentFailure(Problem(Code.DISCLOSURE_UNPROTECTED, f"cell {key} is no part of its table's sums"))
        for other in path:
            found.setdefault(other, "secondary")
    return found


def _network(cells: Mapping[Key, Cell]) -> dict[Node, list[Key]]:
    """The cells of each sum, itself among them: a node is a row or a column, an edge a cell."""
    network: dict[Node, list[Key]] = defaultdict(list)
    for key in sorted(cells):
        for node in _nodes(key):
            network[node].append(key)
    return network


def _nodes(key: Key) -> tuple[Node, Node]:
    return ("row", key[0]), ("column", key[1])


def _sign(key: Key, node: Node) -> int:
    """How the cell counts in the equation `cells - sum = 0` of a row or a column."""
    return -1 if key[1 if node[0] == "row" else 0] == TOTAL else 1


def _way(
    cells: Mapping[Key, Cell],
    network: Mapping[Node, list[Key]],
    out: Mapping[Key, str],
    key: Key,
    by: float,
    single: bool = False,
) -> list[Key] | None:
    """The cheapest cells whose change mends all sums when `key` grows by `by`; None when there are none.

    A growing cell unsettles its row and its column. Each step settles one equation by changing one cell, which unsettles the
    cell's other equation, until the column of `key` is settled. Each equation is met with one sign only, so no cell is
    changed twice. Cells with one enterprise take part only if `single`.
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


def run(connection: psycopg.Connection[Any], schema: str = "intermediate", build_no: int = 0) -> int:
    """Decide what is left out of each published table of the build under way. Returns how many cells are.

    A look-back names itself by `build_no`, and the schema that its cells are in.
    """
    rules = {
        row[0]: Rule(row[1], *map(float, row[2:]))
        for row in connection.execute(
            sql.SQL("select table_name, min_contributors, max_share, protected_share, protected_least from {}").format(
                sql.Identifier(schema, "disclosure_rules")
            )
        )
    }
    tables: dict[tuple[Any, ...], dict[Key, Cell]] = defaultdict(dict)
    for table, series, period, row, column, value, contributors, largest in connection.execute(
        sql.SQL(
            "select table_name, series, period, row_key, column_key, value, contributor_count, largest_value"
            " from {} where value > 0"
        ).format(sql.Identifier(schema, "int_published__cells"))
    ):
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
