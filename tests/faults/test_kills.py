"""Any step may die at any instruction: killed at every named place and run again, it leaves exactly what it should."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from sampan.contracts.registry import get_contract
from sampan.ingest import gate, land, load, publish

from tests.conftest import ROOT
from tests.factory import DAY, adds_up, rows, stored

FEED = "customs_declarations"
CONTRACT = get_contract(FEED)
STEPS = {module.__name__.removeprefix("sampan.ingest."): module for module in (land, load, gate, publish)}
# Read off the source, so that a place that is added is killed at as well.
POINTS = [
    point
    for name in STEPS
    for point in re.findall(r'failpoints\.hit\("([^"]+)"\)', (ROOT / f"plugins/sampan/ingest/{name}.py").read_text())
]
FAST, EXACT = DAY, DAY + timedelta(days=1)


def test_every_step_has_named_places_at_which_it_is_killed():
    assert len(POINTS) == len(set(POINTS)) >= 12
    assert {point.split(".")[0] for point in POINTS} == set(STEPS)


class Truth:
    """Two deliveries with dirty and repeated rows: one for the fast path, one that does not parse; and what they come to."""

    def __init__(self, partner) -> None:
        self.sound, self.broken = [], 0
        for day in (FAST, EXACT):
            given = rows(FEED, 80, day)
            dirty = {2: {"value_hkd": "-1"}, 3: {"hkhs_code": "1"}}
            if day == EXACT:
                dirty[4] = {"movement_date": "2026-02-30"}
            delivered = [row | dirty.get(n, {}) for n, row in enumerate(given)]
            partner.hands_over(FEED, day, [*delivered, given[10]])
            self.sound += [row for n, row in enumerate(given) if n not in dirty]
            self.broken += len(dirty)

    def holds(self, partner) -> None:
        """Everything is there exactly once."""
        assert partner.raw(FEED) == stored(CONTRACT, self.sound)
        assert len(partner.quarantined(FEED)) == self.broken
        sampan = partner.sampan
        counts = sampan.rows("select state, rows_in, rows_duplicate from ops.batch order by business_date")
        assert counts == [("published", 81, 1)] * 2
        assert sampan.rows("select relname from pg_class where relnamespace = 'intake'::regnamespace") == []
        landed = sampan.s3.list_objects_v2(Bucket=sampan.environment["SAMPAN_LANDING_BUCKET"])["Contents"]
        assert len(landed) == 2
        adds_up(sampan)


def killed(step: str, point: str, day: str) -> int:
    """Run a step in a process of its own that is killed at a place; its return code."""
    code = f"from datetime import date; from sampan import {step}; {step}.run({FEED!r}, date.fromisoformat({day!r}))"
    environment = os.environ | {"SAMPAN_FAILPOINT": point, "PYTHONPATH": str(ROOT / "plugins")}
    return subprocess.run([sys.executable, "-c", code], env=environment, check=False, timeout=120).returncode


def run_before(step: str) -> None:
    for name, module in STEPS.items():
        if name == step:
            return
        module.run(FEED)


@pytest.mark.parametrize(
    ("point", "day"),
    [(point, FAST) for point in POINTS]
    + [
        pytest.param(point, EXACT, marks=[] if point.startswith("load.") else pytest.mark.slow)
        for point in POINTS
        if not point.startswith("land.")
    ],
    ids=lambda value: value if isinstance(value, str) else {FAST: "fast", EXACT: "exact"}[value],
)
def test_every_record_counts_once_when_a_step_is_killed_and_run_again(point, day, partner):
    truth, step = Truth(partner), point.split(".")[0]
    run_before(step)
    assert killed(step, point, str(day)) == -signal.SIGKILL
    for module in STEPS.values():
        module.run(FEED)
    truth.holds(partner)
    for module in STEPS.values():
        assert sum(module.run(FEED).values()) == 0
    truth.holds(partner)


def test_every_record_counts_once_when_every_step_is_killed_at_every_place_in_turn(partner):
    truth = Truth(partner)
    deaths = 0
    for step, module in STEPS.items():
        for point in POINTS:
            if point.startswith(f"{step}.") and not point.endswith("after_commit"):
                for day in (FAST, EXACT):
                    deaths += killed(step, point, str(day)) == -signal.SIGKILL
                break
        module.run(FEED)
    assert deaths == 8
    truth.holds(partner)


def test_replay_publishes_the_row_once_when_it_is_killed_at_every_place(partner, tmp_path):
    from sampan.ingest import quarantine

    given = rows(FEED, 80)
    partner.hands_over(FEED, DAY, [row | ({"value_hkd": "-1"} if n == 0 else {}) for n, row in enumerate(given)])
    for module in STEPS.values():
        module.run(FEED)
    (entry,) = quarantine.entries(FEED)
    file = tmp_path / "corrected.csv"
    file.write_text(f"_quarantine_id,value_hkd\n{entry.quarantine_id},{given[0]['value_hkd']}\n")
    code = (
        f"from pathlib import Path; from sampan import quarantine; quarantine.replay({FEED!r}, (), Path({str(file)!r}))"
    )
    for point in ("load.before_copy", "load.after_commit", "gate.after_rows_commit", "publish.before_commit"):
        environment = os.environ | {"SAMPAN_FAILPOINT": point, "PYTHONPATH": str(ROOT / "plugins")}
        done = subprocess.run([sys.executable, "-c", code], env=environment, check=False, timeout=120)
        assert done.returncode == -signal.SIGKILL
    assert quarantine.replay(FEED, corrected=Path(file)) == {"rows": 1, "published": 1, "quarantined": 0}
    assert partner.raw(FEED) == stored(CONTRACT, given)
    adds_up(partner.sampan)
