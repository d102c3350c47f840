"""The benchmark of every format, small: it measures each and says what came out."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from tests.bench.every_format import BARS, BEGIN, END, ROOT


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
    rows = re.findall(r"^\| ([^|]+) \| 2,500 \| ([0-9.]+) \|", text, re.MULTILINE)
    assert [name for name, _ in rows] == list(BARS)
