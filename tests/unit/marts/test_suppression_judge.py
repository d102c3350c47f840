"""tau-Argus, the program of statistical offices, judges which cells are left out: it audits our pattern, it makes none."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytauargus.engine import audit_jj
from sampan.marts.suppression import TOTAL, Cell, Key, SuppressionRule, _network, _sign, suppressed

from tests.unit.marts.test_suppression import CASES, COUNTS, VALUES, intervals, parts, table

# Of tau-Argus: shown, left out because of its own content, and left out to protect others.
STATUS = {None: "s", "primary": "u", "secondary": "m"}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch) -> None:
    """tau-Argus writes its logs where it is called."""
    monkeypatch.chdir(tmp_path)


def audited(cells: dict[Key, Cell], out: dict[Key, str], rule: SuppressionRule, file: Path) -> dict[Key, dict]:
    """What tau-Argus infers of each cell left out: `min`, `max`, and whether one is `unsafe`.

    The file is its JJ format: for each cell number, value, cost, status, bounds that everybody knows, and how far on each
    side and in all an interval has to reach; then the equations.
    """
    number = {key: place for place, key in enumerate(sorted(cells))}
    # With larger numbers its solver gives up.
    scale = min(1, 1e6 / max(cell.value for cell in cells.values()))
    lines = ["0", str(len(cells))]
    for key, place in number.items():
        up = rule.protection(cells[key]) * 0.999 if out.get(key) == "primary" else 0
        # A value ends at zero; how far down a sum can go depends on its cells.
        down = 0 if TOTAL in key else min(up, cells[key].value * 0.999)
        numbers = [f"{value * scale:.9f}" for value in (cells[key].value, 0, most(cells), down, up)]
        lines.append(f"{place} {numbers[0]} 1 {STATUS[out.get(key)]} {' '.join(numbers[1:])} 0")
    equations = _network(cells)
    lines.append(str(len(equations)))
    for node, members in equations.items():
        terms = " ".join(f"{number[key]} ({_sign(key, node)})" for key in members)
        lines.append(f"0 {len(members)} : {terms}")
    file.write_text("\n".join(lines) + "\n")
    keys = list(number)
    return {
        keys[row["cell"]]: row | {"min": row["min"] / scale, "max": row["max"] / scale} for row in audit_jj(str(file))
    }


def most(cells: dict[Key, Cell]) -> float:
    """What everybody knows that no value exceeds."""
    return 100 * max(cell.value for cell in cells.values())


@pytest.mark.parametrize("case", CASES, ids=[f"{rows}x{cols} of {n}" for _, rows, cols, n, _ in CASES])
def test_tau_argus_finds_no_unsafe_cell_and_infers_the_same_intervals(case, tmp_path):
    """Fault: our own attack and our own protection share a mistake."""
    (cells, shares), rule = table(*case), COUNTS if case[-1] else VALUES
    out = suppressed(cells, rule, parts(shares))
    judged = audited(cells, out, rule, tmp_path / "table.jj")
    assert judged.keys() == out.keys()
    assert [key for key, row in judged.items() if row["unsafe"]] == []
    near = max(cell.value for cell in cells.values()) * 1e-6
    for key, low, high in intervals(cells, set(out)):
        assert judged[key]["min"] == pytest.approx(low, rel=1e-3, abs=near)
        assert judged[key]["max"] == pytest.approx(min(high, most(cells)), rel=1e-3, abs=near)


def test_tau_argus_calls_cells_unsafe_when_only_those_that_disclose_are_left_out(tmp_path):
    """A judge that never objects would prove nothing."""
    objected = 0
    for case in CASES:
        (cells, _), rule = table(*case), COUNTS if case[-1] else VALUES
        primary = {key: "primary" for key, cell in cells.items() if rule.is_primary(cell)}
        rows = audited(cells, primary, rule, tmp_path / "table.jj").values()
        objected += any(row["unsafe"] for row in rows)
    assert objected > len(CASES) / 2
