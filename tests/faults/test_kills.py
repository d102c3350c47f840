"""A step that is killed at any failpoint and run again leaves exactly what an uninterrupted run leaves."""

from __future__ import annotations

import inspect
import os
import re
import signal
from datetime import timedelta
from pathlib import Path

import pytest
from sampan.contracts.registry import get_contract
from sampan.ingest import gate, lake, land, load, publish

from tests import forked
from tests.conftest import ROOT
from tests.factory import DAY, adds_up, in_lake, rows, stored

FEED = "customs_declarations"
CONTRACT = get_contract(FEED)
STEPS = {module.__name__.removeprefix("sampan.ingest."): module for module in (land, load, gate, publish, lake)}
# Where only what was withdrawn comes by: test_lake.py kills it there.
ELSEWHERE = {"lake.after_removal"}
# Read from the source, so that new failpoints are tested as well.
POINTS = [
    point
    for name in STEPS
    for point in re.findall(r'failpoints\.hit\("([^"]+)"\)', inspect.getsource(STEPS[name]))
    if point not in ELSEWHERE
]
PLAIN, ODD = DAY, DAY + timedelta(days=1)


def test_every_step_has_failpoints():
    assert len(POINTS) == len(set(POINTS)) >= 16
    assert {point.split(".")[0] for point in POINTS} == set(STEPS)


class Truth:
    """Two deliveries with bad and repeated rows, one of them with a value of another type, and the expected result."""

    def __init__(self, partner) -> None:
        self.sound, self.broken = [], 0
        for day in (PLAIN, ODD):
            given = rows(FEED, 80, day)
            dirty = {2: {"value_hkd": "-1"}, 3: {"hkhs_code": "1"}}
            if day == ODD:
                dirty[4] = {"movement_date": "2026-02-30"}
            delivered = [row | dirty.get(n, {}) for n, row in enumerate(given)]
            partner.hands_over(FEED, day, [*delivered, given[10]])
            self.sound += [row for n, row in enumerate(given) if n not in dirty]
            self.broken += len(dirty)

    def check(self, partner) -> None:
        """Check that everything exists exactly once."""
        assert partner.raw(FEED) == stored(CONTRACT, self.sound)
        assert len(partner.quarantined(FEED)) == self.broken
        sampan = partner.sampan
        counts = sampan.rows("select state, rows_in, rows_duplicate from ops.batch order by business_date")
        assert counts == [("published", 81, 1)] * 2
        assert sampan.rows("select relname from pg_class where relnamespace = 'intake'::regnamespace") == []
        landed = sampan.s3.list_objects_v2(Bucket=sampan.environment["SAMPAN_LANDING_BUCKET"])["Contents"]
        assert len(landed) == 2
        assert in_lake(sampan, FEED) == lines_of_raw(sampan)
        assert sampan.rows("select batch_id from ops.lake_object where etag is null") == []
        adds_up(sampan)


def lines_of_raw(sampan) -> list[tuple]:
    names = ", ".join(f'"{column.name}"' for column in CONTRACT.stored)
    return sampan.rows(f'select _batch_id, _line, {names} from raw."{FEED}" order by 1, 2')


def killed(step: str, point: str, day: str) -> int:
    """Run a step in its own process, which is killed at a failpoint. Returns its return code."""
    code = f"from datetime import date; from sampan.ingest import {step}; {step}.run({FEED!r}, date.fromisoformat({day!r}))"
    return forked.run(["-c", code], os.environ | {"SAMPAN_FAILPOINT": point}, ROOT, timeout=120).returncode


def run_before(step: str) -> None:
    for name, module in STEPS.items():
        if name == step:
            return
        module.run(FEED)


@pytest.mark.parametrize(
    ("point", "day"),
    [(point, PLAIN) for point in POINTS]
    + [
        pytest.param(point, ODD, marks=[] if point.startswith("load.") else pytest.mark.slow)
        for point in POINTS
        if not point.startswith("land.")
    ],
    ids=lambda value: value if isinstance(value, str) else {PLAIN: "plain", ODD: "odd"}[value],
)
def test_every_record_counts_once_when_a_step_is_killed_and_run_again(point, day, partner):
    truth, step = Truth(partner), point.split(".")[0]
    run_before(step)
    assert killed(step, point, str(day)) == -signal.SIGKILL
    for module in STEPS.values():
        module.run(FEED)
    truth.check(partner)
    for module in STEPS.values():
        assert sum(module.run(FEED).values()) == 0
    truth.check(partner)


def test_every_record_counts_once_when_every_step_is_killed_in_turn(partner):
    truth = Truth(partner)
    deaths = 0
    for step, module in STEPS.items():
        for point in POINTS:
            if point.startswith(f"{step}.") and not point.endswith("after_commit"):
                for day in (PLAIN, ODD):
                    deaths += killed(step, point, str(day)) == -signal.SIGKILL
                break
        module.run(FEED)
    assert deaths == 10
    truth.check(partner)


def test_replay_publishes_the_row_once_when_it_is_killed_at_every_failpoint(partner, tmp_path):
    from sampan.ingest import quarantine

    given = rows(FEED, 80)
    partner.hands_over(FEED, DAY, [row | ({"value_hkd": "-1"} if n == 0 else {}) for n, row in enumerate(given)])
    for module in STEPS.values():
        module.run(FEED)
    (entry,) = quarantine.entries(FEED)
    file = tmp_path / "corrected.csv"
    file.write_text(f"_quarantine_id,value_hkd\n{entry.quarantine_id},{given[0]['value_hkd']}\n")
    replay = f"quarantine.replay({FEED!r}, (), Path({str(file)!r}))"
    code = f"from pathlib import Path; from sampan.ingest import quarantine; {replay}"
    for point in ("load.before_copy", "load.after_commit", "gate.after_rows_commit", "publish.before_commit"):
        done = forked.run(["-c", code], os.environ | {"SAMPAN_FAILPOINT": point}, ROOT, timeout=120)
        assert done.returncode == -signal.SIGKILL
    assert quarantine.replay(FEED, corrected=Path(file)) == {"rows": 1, "published": 1, "quarantined": 0}
    assert partner.raw(FEED) == stored(CONTRACT, given)
    adds_up(partner.sampan)
