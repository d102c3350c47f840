"""The benchmark of small deliveries, with few of them: it says where their time goes."""

from __future__ import annotations

import re

import pytest

from tests.bench.page import written
from tests.bench.small_deliveries import BEGIN, END, STEPS


@pytest.mark.slow
def test_benchmark_reports_every_step(tmp_path):
    text = written(tmp_path, "small_deliveries", BEGIN, END, "--days", "1")
    steps = re.findall(r"^\| (\w+) \| [0-9.]+ ", text, re.MULTILINE)
    assert steps == [*STEPS, "all"]
    (line,) = re.findall(r"^\| all \| (.*) \|$", text, re.MULTILINE)
    *parts, whole = [float(cell.split()[0]) for cell in line.split("|")]
    assert abs(sum(parts) - whole) < 1
