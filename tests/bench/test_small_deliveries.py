"""The benchmark of small deliveries, with few of them: it says where their time goes."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.bench.small_deliveries import BEGIN, END, ROOT, STEPS


@pytest.mark.slow
def test_benchmark_reports_every_step(tmp_path):
    page = tmp_path / "benchmarks.md"
    page.write_text(f"# Before\n{BEGIN}\nold\n{END}\nafter\n")
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.small_deliveries", "--days", "1", "--write", str(page)],
        cwd=ROOT,
        env=os.environ | {"SAMPAN_BENCH_PAUSE": "0"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "old" not in text
    assert text.endswith("\nafter\n")
    steps = re.findall(r"^\| (\w+) \| [0-9.]+ ", text, re.MULTILINE)
    assert steps == [*STEPS, "all"]
    (line,) = re.findall(r"^\| all \| (.*) \|$", text, re.MULTILINE)
    *parts, whole = [float(cell.split()[0]) for cell in line.split("|")]
    assert abs(sum(parts) - whole) < 1
