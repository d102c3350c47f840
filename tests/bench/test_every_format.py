"""The benchmark of every format, small: it measures each and says what came out."""

from __future__ import annotations

import csv
import re
from dataclasses import replace

import pytest

from tests.bench.deliveries import KINDS, write
from tests.bench.every_format import BARS, BEGIN, CHART, END
from tests.bench.page import written


@pytest.mark.slow
def test_benchmark_reports_every_format(tmp_path):
    text = written(tmp_path, "every_format", BEGIN, END, "--rows", "2500", "--runs", "1")
    assert (tmp_path / CHART).read_text().startswith("<svg ")
    rows = re.findall(r"^\| ([^|]+) \| 2,500 \| ([0-9.]+) \|", text, re.MULTILINE)
    assert [name for name, _ in rows] == list(BARS)


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, id=kind.name, marks=[pytest.mark.slow] if place else []) for place, kind in enumerate(KINDS)],
)
def test_no_two_sound_rows_of_any_round_have_the_same_key(kind, tmp_path):
    """Rows are repeated under other keys: with the same ones, the gate would reject what the benchmark takes for sound."""
    keys: list[tuple[str, ...]] = []
    for first in (0, 4_000, 600_000):
        write(replace(kind, odd=0), 4_000, tmp_path / "delivery", tmp_path / "plain.csv", first)
        with (tmp_path / "plain.csv").open(encoding="utf-8", newline="") as plain:
            keys += [tuple(row[name] for name in kind.contract.key) for row in csv.DictReader(plain)]
    assert len(set(keys)) == len(keys) == 12_000
