"""Cell suppression: which cells of a published table are left out, so that it discloses nothing about one enterprise.

A cell is suppressed when too few enterprises contribute to it, when one of them dominates it, or when the second
largest can compute the largest closely from it (p% rule): primary suppression. Where somebody else publishes the value
of all, as C&SD does of exports, that value less a shown cell is the value of the others, who have to keep the same
rules. Sums are published too, so other cells have to be suppressed with it (secondary suppression): for each primary
cell there have to be ways to raise and to lower its value by its protection and to restore every sum by changing
suppressed cells only, none below zero. Then an attacker who knows everything that is published can only infer an
interval that reaches as far on both sides. A cell with one contributor is used for that only when no other can be: its
enterprise knows its value.

A sum that is shown less its cells that are shown is the value of its suppressed cells together, and sums can be combined.
What is known like that must not have few contributors or a dominant one either: cells are added until it has not.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sampan.database import Connection
from sampan.engine import engine
from sampan.errors import Code, PermanentFailure, Problem
from sampan.marts import published

TOTAL = "*"
# A sum is worth more to readers than a cell: it is suppressed only when no cell can be suppressed instead.
TOTAL_COSTS = 1e6
# How often the amount by which a sum has to be able to shrink is halved: a sum has fewer cells than 2 to the power of this.
HALVINGS = 20
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
    min_uncertainty: float
    protected_share: float
    protected_least: float

    def is_primary(self, cell: Cell) -> bool:
        """Whether the cell alone discloses something about one enterprise behind it, or among the others."""
        dominated = cell.contributors > 1 and cell.largest > self.max_share * cell.value
        few = cell.contributors < self.min_contributors
        return few or dominated or self.is_readable(cell) or self._gives_others_away(cell)

    def is_readable(self, cell: Cell) -> bool:
        """Whether the second largest knows the largest within p% when it subtracts its own value."""
        if not self.min_uncertainty or cell.contributors < 2:
            return False
        return cell.value - cell.largest - cell.second < self.min_uncertainty * cell.largest

    def protection(self, cell: Cell) -> float:
        """How far on each side the interval that an attacker may infer has to reach, in the unit of the value.

        The others of a cell are known as well as the cell is. Below, a value ends at zero.
        """
        least = cell.others.value if cell.others and self._gives_others_away(cell) else 0
        return max(self.protected_share * max(cell.value, least), self.protected_least)

    def _gives_others_away(self, cell: Cell) -> bool:
        return cell.others is not None and cell.others.contributors > 0 and self.is_primary(cell.others)


@dataclass(frozen=True)
class Cell:
    """One cell, or a sum: its value, how many enterprises contribute to it, and the two largest of their contributions.

    `others` are those who are not in the table, where somebody else publishes the value of all.
    """

    value: float
    contributors: int
    largest: float
    second: float = 0
    others: Cell | None = None

    @classmethod
    def of(cls, shares: Mapping[str, float], others: Mapping[str, float] | None = None) -> Cell:
        """The cell of these contributions."""
        first, second = [*heapq.nlargest(2, shares.values()), 0.0, 0.0][:2]
        return cls(sum(shares.values()), len(shares), first, second, cls.of(others) if others else None)


def suppressed(
    cells: Mapping[Key, Cell], rule: SuppressionRule, contributions: Contributions, others: Contributions | None = None
) -> dict[Key, str]:
    """Which cells of a two-dimensional table are suppressed, and why: "primary" or "secondary".

    `cells` has every cell that is not zero, by row and column, with the sums under `*`; `others` what those who are not
    in the table contribute. Raises PermanentFailure when the sums of a cell are missing, the only case in which it
    cannot be protected.
    """
    table = _Table(cells, rule, contributions, others or {})
    table.protect_cells()
    while table.widen_rows_and_columns() or table.widen_across():
        pass
    return table.out


class _Table:
    """A table while its cells are being suppressed. Rows and columns are the nodes of a graph, cells its edges.

    `out` are the suppressed cells, and why.
    """

    def __init__(
        self, cells: Mapping[Key, Cell], rule: SuppressionRule, contributions: Contributions, others: Contributions
    ) -> None:
        self.cells, self.rule = cells, rule
        self.shares, self.others = _with_sums(contributions), _with_sums(others)
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
        """Suppress more cells where a sum of suppressed cells that follows from several shown sums tells of an enterprise.

        With each cell as an arc (`_arc`) the table is a circulation: what leaves a set of rows and columns also enters it. If
        no suppressed cell enters a set, the sum of those that leave it is known. The set that is worst for an enterprise is
        the closure of greatest weight, which is a minimum cut: once for dominance, once for the p% rule, with the largest
        other of each cell as the one who subtracts. Returns whether there was one.
        """
        import numpy as np

        places = self._places()
        arcs = {key: (places[start], places[end]) for key in self.out for start, end in [_arc(key)]}
        arcs = {key: (start, end) for key, (start, end) in arcs.items() if start != end}
        lines, size = np.array(sorted(set(arcs.values()))).reshape(-1, 2).T, max(places.values()) + 1
        for excess in self._excesses(arcs, size):
            inside = _worst_set(excess, lines)
            known = [key for key, (start, end) in arcs.items() if start in inside and end not in inside]
            if known and self.rule.is_primary(self._together(known)):
                by = self.rule.protection(self._together(known))
                crossing = [key for key in self.cells if sum(places[node] in inside for node in _arc(key)) == 1]
                self._suppress(min((self._way(key, by) for key in crossing if key not in self.out), key=self._cost))
                return True
        return False

    def _excesses(self, arcs: Mapping[Key, tuple[int, int]], size: int) -> Iterator[Any]:
        """For each enterprise that a cell alone tells of: by how much the cells that leave each place tell of it.

        A number for each place; a cell counts below zero where it does not tell of it.
        """
        import numpy as np

        keys_of: dict[str, list[Key]] = defaultdict(list)
        for key in arcs:
            for enterprise in self.shares[key]:
                keys_of[enterprise].append(key)
        for measure in (self._dominance, self._readability):
            of_strangers = {key: measure(key, "") for key in arcs}
            base = np.zeros(size)
            for key, amount in of_strangers.items():
                base[arcs[key][0]] += amount
                base[arcs[key][1]] -= amount
            for enterprise in sorted(keys_of):
                own = {key: measure(key, enterprise) for key in keys_of[enterprise]}
                if max(own.values()) > 0:
                    excess = base.copy()
                    for key, amount in own.items():
                        excess[arcs[key][0]] += amount - of_strangers[key]
                        excess[arcs[key][1]] -= amount - of_strangers[key]
                    yield excess

    def _dominance(self, key: Key, enterprise: str) -> float:
        return self.shares[key].get(enterprise, 0.0) - self.rule.max_share * self.cells[key].value

    def _readability(self, key: Key, enterprise: str) -> float:
        if not self.rule.min_uncertainty:
            return 0.0
        cell, own = self.cells[key], self.shares[key].get(enterprise, 0.0)
        other = cell.second if own == cell.largest else cell.largest
        return (1 + self.rule.min_uncertainty) * own + other - cell.value

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
        """The cheapest cells, suppressed or not, whose change lets `key` grow by `by`, and shrink by it or to zero.

        A sum shrinks as far as one way lets it: none of its cells may have as much.
        """
        ways = self._cheapest(key, by, 1)
        amount = min(by, self.cells[key].value)
        for _ in range(HALVINGS):
            if shrinking := self._cheapest(key, amount, -1, also=ways or ()):
                break
            amount /= 2
        if ways is None or not shrinking:
            message = f"cell {key} cannot be protected: it is not part of its table's sums"
            raise PermanentFailure(Problem(Code.DISCLOSURE_UNPROTECTED, message))
        return [*ways, *shrinking]

    def _cheapest(self, key: Key, by: float, direction: int, also: Iterable[Key] = ()) -> list[Key] | None:
        out = {*self.out, *also}
        path = _cheapest_cycle(self.cells, self.network, out, key, by, direction)
        return path or _cheapest_cycle(self.cells, self.network, out, key, by, direction, single=True)

    def _together(self, keys: Sequence[Key]) -> Cell:
        """Cells as one cell. Contributors are added up only where it matters for the rule."""
        cells = [self.cells[key] for key in keys]
        bounds = Cell(
            sum(cell.value for cell in cells),
            max((cell.contributors for cell in cells), default=0),
            sum(cell.largest for cell in cells),
            sum(cell.second for cell in cells),
        )
        if not self.rule.is_primary(bounds) and not any(cell.others for cell in cells):
            return bounds
        return Cell.of(*(_added(of.get(key, {}) for key in keys) for of in (self.shares, self.others)))


def _added(shares: Iterable[Mapping[str, float]]) -> dict[str, float]:
    added: dict[str, float] = defaultdict(float)
    for part in shares:
        for enterprise, share in part.items():
            added[enterprise] += share
    return added


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
    out: Collection[Key],
    key: Key,
    by: float,
    direction: int,
    single: bool = False,
) -> list[Key] | None:
    """The cheapest cells whose change restores all sums when `key` changes by `by`; None when there are none.

    It grows (`direction` 1) or shrinks (-1). A changed cell breaks the equations of its row and its column. Each step
    restores one equation by changing one cell, which breaks the cell's other equation, until the equation of the column
    of `key` holds again. Each equation is visited with one sign only, so no cell changes twice. Cells with one contributor
    take part only if `single`.
    """
    start, end = _nodes(key)
    queue: list[tuple[float, Node, int, tuple[Key, ...]]] = [(0.0, start, direction * _sign(key, start), ())]
    seen: set[Node] = set()
    while queue:
        cost, node, surplus, path = heapq.heappop(queue)
        if node == end and surplus == -direction * _sign(key, end):
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


class _Contributed:
    """What enterprises contribute to the cells of a table, and what the others do who are not in it."""

    def __init__(self) -> None:
        self.shares: dict[Key, dict[str, float]] = defaultdict(dict)
        self.others: dict[Key, dict[str, float]] = defaultdict(dict)

    def add(self, key: Key, enterprise: str, value: float, is_published: bool) -> None:
        """Take in one contribution."""
        (self.shares if is_published else self.others)[key][enterprise] = value

    def cells(self) -> dict[Key, Cell]:
        """Every cell and sum that somebody in the table contributes to."""
        shares, others = _with_sums(self.shares), _with_sums(self.others)
        return {key: Cell.of(of, others.get(key)) for key, of in shares.items() if sum(of.values()) > 0}


def _with_sums(shares: Contributions) -> dict[Key, dict[str, float]]:
    summed: dict[Key, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for (row, column), of in shares.items():
        for key in ((row, column), (row, TOTAL), (TOTAL, column), (TOTAL, TOTAL)):
            for enterprise, value in of.items():
                summed[key][enterprise] += value
    return summed


def run(connection: Connection, schema: str = "intermediate", build_no: int = 0) -> int:
    """Decide which cells of each published table are suppressed, and store them. Returns how many.

    `schema` holds the contributions and the rules; marts as known on a date have their own `build_no`, the current
    build has 0.
    """

    def rows(columns: str, table: str) -> Iterator[tuple[Any, ...]]:
        found = engine(build_no or None).read(connection, f"select {columns} from {schema}.{table}")
        return zip(*(column.to_pylist() for column in found.columns), strict=True)

    of_rules = "table_name, min_contributors, max_share, min_uncertainty, protected_share, protected_least"
    contributions = "table_name, series, period, row_key, column_key, is_published, sme_id, value"
    rules = {row[0]: SuppressionRule(row[1], *map(float, row[2:])) for row in rows(of_rules, "disclosure_rules")}
    tables: dict[tuple[Any, ...], _Contributed] = defaultdict(_Contributed)
    for table, series, period, row, column, is_published, enterprise, value in rows(
        contributions, "int_published__contributions"
    ):
        tables[table, series, period].add((row, column), enterprise, value, is_published)
    found = [
        (build_no, *table, *key, reason)
        for table, contributed in tables.items()
        for key, reason in suppressed(
            contributed.cells(), rules[table[0]], contributed.shares, contributed.others
        ).items()
    ]
    with connection.transaction():
        connection.execute("delete from ops.suppression where build_no = %s", [build_no])
        with connection.cursor().copy(
            "copy ops.suppression (build_no, table_name, series, period, row_key, column_key, reason) from stdin"
        ) as copy:
            for line in found:
                copy.write_row(line)
        if not build_no:
            published.keep(connection, schema)
    return len(found)
