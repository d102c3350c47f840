"""The benchmark of the gated load, small: it measures all contestants and says what came out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.bench.gated_load import BEGIN, END, ROOT


def test_benchmark_reports_every_contestant_and_keeps_the_page_around_it(tmp_path: Path):
    page = tmp_path / "benchmarks.md"
    page.write_text(f"# Before\n{BEGIN}\nold\n{END}\nafter\n")
    options = ["--rows", "3000", "--runs", "1", "--dlt", "csv", "--write", str(page)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.gated_load", *options],
        cwd=ROOT,
        env=os.environ | {"SAMPAN_BENCH_PAUSE": "0"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert text.startswith("# Before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    rows = re.findall(r"^\| ([^|]+) \| (?:all|none) \| ([0-9.]+) \|", text, re.MULTILINE)
    assert [name for name, _ in rows] == ["plain COPY", "Sampan: load, gate, publish", "dlt, csv"]
    assert "times plain COPY" in text
