"""The benchmark of every format, small: it measures each and says what came out."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.bench.deliveries import KINDS, write
from tests.bench.every_format import BARS, BEGIN, CHART, END, ROOT


@pytest.mark.slow
def test_benchmark_reports_every_format(tmp_path):
    page = tmp_path / "benchmarks.md"
    page.write_text(f"# Before\n{BEGIN}\nold\n{END}\nafter\n")
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.every_format", "--rows", "2500", "--runs", "1", "--write", str(page)],
        cwd=ROOT,
        env=os.environ | {"SAMPAN_BENCH_PAUSE": "0"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "old" not in text
    assert (tmp_path / CHART).read_text().startswith("<svg ")
    rows = re.findall(r"^\| ([^|]+) \| 2,500 \| ([0-9.]+) \|", text, re.MULTILINE)
    assert [name for name, _ in rows] == list(BARS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_two_sound_rows_of_any_round_have_the_same_key(kind, tmp_path):
    """Rows are repeated under other keys: with the same ones, the gate would reject what the benchmark takes for sound."""
    keys: list[tuple[str, ...]] = []
    for first in (0, 4_000, 600_000):
        write(replace(kind, odd=0), 4_000, tmp_path / "delivery", tmp_path / "plain.csv", first)
        with (tmp_path / "plain.csv").open(encoding="utf-8", newline="") as plain:
            keys += [tuple(row[name] for name in kind.contract.key) for row in csv.DictReader(plain)]
    assert len(set(keys)) == len(keys) == 12_000
