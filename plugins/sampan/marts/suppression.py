"""Cell suppression: which cells of a published table are left out, so that it discloses nothing about one enterprise.

A cell is suppressed when too few enterprises contribute to it or one of them dominates it (primary suppression). Sums are
published too, so other cells have to be suppressed with it (secondary suppression): for each primary cell there has to be a
way to change its value by its protection and to restore every sum by changing suppressed cells only, none below zero. Then an
attacker who knows everything that is published can only infer an interval at least as wide as the protection. A cell with
one contributor is used for that only when no other can be: its enterprise knows its value.

A sum that is shown less its cells that are shown is the value of its suppressed cells together, and sums can be combined.
What is known like that must not have few contributors or a dominant one either: cells are added until it has not.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from sampan.database import Connection
from sampan.errors import Code, PermanentFailure, Problem

TOTAL = "*"
# A sum is worth more to readers than a cell: it is suppressed only when no cell can be suppressed instead.
TOTAL_COSTS = 1e6
# The values of a table as whole numbers, which the minimum cut needs.
UNITS = 1 << 30

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
    table = _Table(cells, rule, contributions)
    table.protect_cells()
    while table.widen_rows_and_columns() or table.widen_across():
        pass
    return table.out


class _Table:
    """A table while its cells are being suppressed. Rows and columns are the nodes of a graph, cells its edges.

    `out` are the suppressed cells, and why.
    """

    def __init__(self, cells: Mapping[Key, Cell], rule: SuppressionRule, contributions: Contributions) -> None:
        self.cells, self.rule, self.contributions = cells, rule, contributions
        self.network = _network(cells)
        self.out = {key: "primary" for key, cell in cells.items() if rule.is_primary(cell)}

    def protect_cells(self) -> None:
        """Suppress what protects each primary cell. The hardest first: cells that protect them often protect the rest."""
        needed = {key: self.rule.protection(self.cells[key]) for key in self.out}
        for key in sorted(needed, key=lambda key: (-needed[key], key)):
            self._suppress(self._protecting(key, needed[key]))

    def widen_rows_and_columns(self) -> bool:
        """Suppress more cells where those of a row or column disclose something together. Returns whether there were any."""
        nodes, was_needed = sorted(self.network), False
        while nodes:
            added = self._widening(nodes[-1])
            self._suppress(added)
            was_needed |= bool(added)
            if not added:
                nodes.pop()
            nodes += (node for key in added for node in _nodes(key))
        return was_needed

    def widen_across(self) -> bool:
        """Suppress more cells where an enterprise dominates a sum of suppressed cells that follows from several shown sums.

        With each cell as an arc (`_arc`) the table is a circulation: what leaves a set of rows and columns also enters it. If
        no suppressed cell enters a set, the sum of those that leave it is known. The set that is worst for an enterprise is
        the closure of greatest weight, which is a minimum cut. Returns whether there was one.
        """
        import numpy as np

        places = self._places()
        arcs = {key: (places[start], places[end]) for key in self.out for start, end in [_arc(key)]}
        arcs = {key: (start, end) for key, (start, end) in arcs.items() if start != end}
        lines, size = np.array(sorted(set(arcs.values()))).reshape(-1, 2).T, max(places.values()) + 1
        allowed = np.zeros(size)
        for key, (start, end) in arcs.items():
            allowed[start] += self.rule.max_share * self.cells[key].value
            allowed[end] -= self.rule.max_share * self.cells[key].value
        for shares in self._shares_of_dominant(arcs):
            excess = -allowed
            for key, share in shares.items():
                excess[arcs[key][0]] += share
                excess[arcs[key][1]] -= share
            inside = _worst_set(excess, lines)
            known = [key for key, (start, end) in arcs.items() if start in inside and end not in inside]
            if known:
                by = self.rule.protection(self._together(known))
                crossing = [key for key in self.cells if sum(places[node] in inside for node in _arc(key)) == 1]
                self._suppress(min((self._way(key, by) for key in crossing if key not in self.out), key=self._cost))
                return True
        return False

    def _places(self) -> dict[Node, int]:
        """A number for each row and column; those that suppressed cells join to a circle have one number."""
        import numpy as np
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import connected_components

        number = {node: place for place, node in enumerate(self.network)}
        ends = np.array([[number[node] for node in _arc(key)] for key in self.out], dtype=int).reshape(-1, 2)
        graph = csr_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(number), len(number)))
        circles = connected_components(graph, connection="strong")[1]
        return {node: int(circles[place]) for node, place in number.items()}

    def _shares_of_dominant(self, keys: Iterable[Key]) -> list[dict[Key, float]]:
        """What each enterprise that dominates one of the cells contributes to all of them."""
        found: dict[str, dict[Key, float]] = defaultdict(lambda: defaultdict(float))
        dominant = set()
        for key in keys:
            for enterprise, share in self._shares(key):
                found[enterprise][key] += share
                if found[enterprise][key] > self.rule.max_share * self.cells[key].value:
                    dominant.add(enterprise)
        return [found[enterprise] for enterprise in sorted(dominant)]

    def _suppress(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self.out.setdefault(key, "secondary")

    def _widening(self, node: Node) -> list[Key]:
        """The cheapest cells to add when the suppressed cells of a row or column disclose something together.

        If their sum is suppressed too, they are known together as well as the sum is: that has to vary by the protection.
        """
        hidden = [key for key in self.network[node] if key in self.out and _sign(key, node) > 0]
        total = next((key for key in self.network[node] if _sign(key, node) < 0), None)
        # An enterprise that is alone in a cell can subtract it.
        for keys in (hidden, [key for key in hidden if self.cells[key].contributors > 1]):
            together = self._together(keys)
            if len(keys) < 2 or not self.rule.is_primary(together):
                continue
            shown = [total] if total in self.out else [key for key in self.network[node] if key not in self.out]
            ways = []
            for way in (self._way(key, self.rule.protection(together)) for key in shown):
                wider = [*keys, *(key for key in self.network[node] if key in way)]
                is_enough = total in wider or not self.rule.is_primary(self._together(wider))
                ways.append((not is_enough, self._cost(way), way))
            if ways and min(ways)[2]:
                return min(ways)[2]
        return []

    def _way(self, key: Key, by: float) -> list[Key]:
        """What else has to be suppressed for `key` to be suppressed and vary by `by`."""
        return sorted({key, *self._protecting(key, by)} - self.out.keys())

    def _cost(self, keys: Iterable[Key]) -> float:
        return sum(_price(self.cells, key) for key in keys)

    def _protecting(self, key: Key, by: float) -> list[Key]:
        """The cheapest cells, suppressed or not, whose change lets `key` grow by `by`."""
        path = _cheapest_cycle(self.cells, self.network, self.out, key, by)
        path = path or _cheapest_cycle(self.cells, self.network, self.out, key, by, single=True)
        if path is None:
            message = f"cell {key} cannot be protected: it is not part of its table's sums"
            raise PermanentFailure(Problem(Code.DISCLOSURE_UNPROTECTED, message))
        return path

    def _together(self, keys: Sequence[Key]) -> Cell:
        """Cells as one cell. Contributors are added up only where it matters for the rule."""
        value = sum(self.cells[key].value for key in keys)
        at_least = max((self.cells[key].contributors for key in keys), default=0)
        bounds = Cell(value, at_least, sum(self.cells[key].largest for key in keys))
        if not self.rule.is_primary(bounds):
            return bounds
        shares: dict[str, float] = defaultdict(float)
        for key in keys:
            for enterprise, share in self._shares(key):
                shares[enterprise] += share
        return Cell(value, len(shares), max(shares.values(), default=0))

    def _shares(self, key: Key) -> Iterator[tuple[str, float]]:
        """What enterprises contribute to a cell, or part by part to a sum."""
        for part in self.network[_nodes(key)[key[0] == TOTAL]] if TOTAL in key else [key]:
            yield from self.contributions.get(part, {}).items()


def _worst_set(excess: Any, lines: Any) -> set[int]:
    """Places that no arc enters from outside, and whose sum of `excess` is the greatest; empty if it is not above 0.

    `excess` is a number for each place, `lines` are two rows of places: where arcs start, and where they end.
    """
    import numpy as np
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    starts, ends = lines
    source, sink = len(excess), len(excess) + 1
    units = np.rint(excess * (UNITS / max(np.abs(excess).sum(), 1))).astype(np.int32)
    gains, losses = np.flatnonzero(units > 0), np.flatnonzero(units < 0)
    rows = np.concatenate([ends, np.full(len(gains), source), losses])
    columns = np.concatenate([starts, gains, np.full(len(losses), sink)])
    capacities = np.concatenate([np.full(len(ends), UNITS, np.int32), units[gains], -units[losses]])
    graph = csr_array((capacities, (rows, columns)), shape=(sink + 1, sink + 1))
    flow = maximum_flow(graph, source, sink)
    # Each place was rounded by half a unit at most.
    if units[gains].sum() - flow.flow_value <= 2 * len(excess):
        return set()
    return set(breadth_first_order(graph - flow.flow, source, return_predecessors=False).tolist())


def _arc(key: Key) -> tuple[Node, Node]:
    """A cell from its row to its column, a sum from its column to its row."""
    row, column = _nodes(key)
    return (column, row) if (key[0] == TOTAL) != (key[1] == TOTAL) else (row, column)


def _price(cells: Mapping[Key, Cell], key: Key) -> float:
    """What it costs readers that a cell is suppressed."""
    return 1 + math.sqrt(cells[key].value) * (TOTAL_COSTS if TOTAL in key else 1)


def _network(cells: Mapping[Key, Cell]) -> dict[Node, list[Key]]:
    """The cells of each row and column, with its sum."""
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
