"""A column that a partner delivers before the contract names it: noted, then named, then filled from landing."""

from __future__ import annotations

import csv
import io
import shutil
from datetime import timedelta

import polars as pl
import pytest
from sampan.contracts.registry import get_contract
from sampan.governance import compaction
from sampan.ingest import gate, publish, quarantine

from tests.conftest import ROOT
from tests.factory import DAY, adds_up, encode, rows, stored

FEED = "customs_declarations"
CONTRACT = get_contract(FEED)
SEALS = [str(1000 + number) for number in range(20)]


@pytest.fixture
def newer(partner, tmp_path):
    """The `sampan` command with a contract that has gained a column; the option is the column's, as YAML lines."""

    def command(*arguments: str, column: str = "logicalType: integer\n        between: [0, 9999]"):
        home = tmp_path / "home"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(ROOT / "expectations", home / "expectations")
        for folder in ("infra/postgres", "dbt_project"):
            (home / folder).parent.mkdir(parents=True, exist_ok=True)
            (home / folder).symlink_to(ROOT / folder)
        path = home / "expectations" / "feeds" / f"{FEED}.yaml"
        before = "      - name: conveyance\n"
        text = path.read_text()
        assert text.count(before) == 1
        added = f"      - name: seal_no\n        physicalName: Seal No\n        description: Seal.\n        {column}\n"
        path.write_text(text.replace(before, added + before))
        return partner.sampan.cli(*arguments, SAMPAN_HOME=str(home))

    return command


def seals(partner) -> dict[tuple[int, int], int | None]:
    """The new column by batch and line of raw."""
    found = partner.sampan.rows(f"select _batch_id, _line, seal_no from raw.{FEED}")
    return {(batch, line): seal for batch, line, seal in found}


def test_reload_fills_a_column_that_the_contract_names_later_and_doubles_nothing(partner, newer, tmp_path):
    days = [rows(FEED, 20, DAY + timedelta(days=n), seed=n) for n in range(3)]
    # One row waits in quarantine, one was replayed before the contract names the column.
    delivered = [row | ({"hkhs_code": "1"} if n < 2 else {}) for n, row in enumerate(days[0])]
    partner.hands_over(FEED, DAY, delivered, added={"Seal No": SEALS, "Remark": ["private"] * 20})
    partner.ingest(FEED)
    assert gate.accept(FEED, DAY, "two of twenty are known", "the test") == publish.run(FEED)["batches"] == 1
    partner.hands_over(FEED, DAY + timedelta(days=1), days[1], added={"Seal No": [None] * 19 + ["7"]})
    partner.ingest(FEED)
    partner.hands_over(FEED, DAY + timedelta(days=2), days[2])
    partner.ingest(FEED)
    first, second = quarantine.entries(FEED)
    (tmp_path / "one.csv").write_text(f"_quarantine_id,hkhs_code\n{first.quarantine_id},{days[0][0]['hkhs_code']}\n")
    assert quarantine.replay(FEED, corrected=tmp_path / "one.csv")["published"] == 1
    compaction.compact()
    before = partner.raw(FEED)
    assert len(before) == 59

    assert newer("init").returncode == 0
    run = newer("reload", FEED, "--to", str(DAY))
    assert (run.returncode, run.stdout) == (0, f"reload {FEED}: 1 batches, 19 rows\n"), run.stderr
    run = newer("reload", FEED)
    assert (run.returncode, run.stdout) == (0, f"reload {FEED}: 1 batches, 20 rows\n"), run.stderr
    found = seals(partner)
    assert {line: seal for (batch, line), seal in found.items() if batch == 1} == {
        line: int(seal) for line, seal in enumerate(SEALS, 2) if line not in (2, 3)
    }
    assert [seal for (batch, _), seal in sorted(found.items()) if batch == 2] == [None] * 19 + [7]
    assert {seal for (batch, _), seal in found.items() if batch == 3} == {None}
    assert [seal for (batch, _), seal in found.items() if batch == 4] == [int(SEALS[0])]
    assert partner.raw(FEED) == before
    adds_up(partner.sampan)
    # The lake has the new column of every batch, and its values.
    in_objects = [
        pl.read_parquet(io.BytesIO(partner.sampan.s3.get_object(Bucket="lake", Key=item["Key"])["Body"].read()))
        for item in partner.sampan.s3.list_objects_v2(Bucket="lake")["Contents"]
    ]
    assert {
        row[:2]: row[2] for frame in in_objects for row in frame.select("_batch_id", "_line", "seal_no").rows()
    } == found
    verified = newer("lake", "verify", FEED)
    assert verified.returncode == 0, verified.stdout
    # What the contract still does not name stays noted and unstored; nothing is left to reload.
    assert {name for (name,) in partner.sampan.rows("select column_name from ops.drift")} == {"remark"}
    run = newer("reload", FEED)
    assert run.stdout == f"reload {FEED}: 0 batches, 0 rows\n"

    exported = list(csv.DictReader(io.StringIO(newer("quarantine", "show", FEED, "--csv").stdout)))
    assert [row["seal_no"] for row in exported] == [SEALS[1]]
    (tmp_path / "two.csv").write_text(f"_quarantine_id,hkhs_code\n{second.quarantine_id},{days[0][1]['hkhs_code']}\n")
    assert newer("quarantine", "replay", FEED, "--file", str(tmp_path / "two.csv")).returncode == 0
    assert partner.raw(FEED) == stored(CONTRACT, [row for day in days for row in day])
    assert sorted(seal for seal in seals(partner).values() if seal) == [7, *map(int, SEALS)]
    # What is delivered after the change has the column at once.
    day = DAY + timedelta(days=3)
    body = encode(CONTRACT, rows(FEED, 1, day, seed=3), added={"Seal No": ["77"]})
    partner.sampan.deliver(FEED, day, "later.csv.gz", body)
    assert newer("ingest", FEED).returncode == 0
    assert 77 in seals(partner).values()


@pytest.mark.parametrize(
    ("column", "rule"),
    [
        ("logicalType: date", "seal_no.type"),
        ("logicalType: integer\n        between: [0, 1010]", "seal_no.maximum"),
        ("logicalType: string\n        maxLength: 9\n        required: true", "seal_no.required"),
    ],
)
def test_reload_changes_nothing_when_the_values_break_a_rule_of_the_new_column(column, rule, partner, newer):
    given = rows(FEED, 20)
    partner.hands_over(FEED, DAY, given, added={"Seal No": [*SEALS[:19], None]})
    partner.ingest(FEED)
    assert newer("init", column=column).returncode == 0
    run = newer("reload", FEED, column=column)
    assert run.returncode == 1
    assert rule in run.stderr
    assert "reload.refused" in run.stderr
    assert "1019" not in run.stderr
    assert set(seals(partner).values()) == {None}
    assert partner.sampan.one("select count(*) from ops.drift where kind = 'unknown'") == 1
