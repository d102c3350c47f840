"""The benchmark of the gated load, small: it measures all contestants and says what came out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.bench.gated_load import BEGIN, END
from tests.bench.page import written


@pytest.mark.slow
def test_benchmark_reports_every_contestant_and_keeps_the_page_around_it(tmp_path: Path):
    text = written(tmp_path, "gated_load", BEGIN, END, "--rows", "3000", "--runs", "1", "--dlt", "csv")
    rows = re.findall(r"^\| ([^|]+) \| (?:all|none) \| ([0-9.]+) \|", text, re.MULTILINE)
    assert [name for name, _ in rows] == ["plain COPY", "Sampan: load, gate, publish", "dlt, csv"]
    assert "times plain COPY" in text
