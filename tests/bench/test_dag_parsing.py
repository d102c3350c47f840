"""What Airflow pays to read the DAG files, as it does in each task. In the long suite, which runs one test at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.test_dags import DAGS, parse

# CPU seconds, which a busy machine does not stretch as it does the clock's.
PARSE_SECONDS = 1.5


@pytest.mark.slow
def test_dag_files_are_parsed_within_their_budget(tmp_path: Path) -> None:
    seconds = []
    for seed in ("1", "2"):
        process = parse(tmp_path, seed, DAGS)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        seconds.append(json.loads(out.rsplit("\n", 2)[-2])["folders"][0]["seconds"])
    assert min(seconds) < PARSE_SECONDS
