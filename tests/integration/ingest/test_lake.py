"""Raw as Parquet in the object store: what is in it, what leaves it, and what heals. All values are synthetic."""

from __future__ import annotations

import io
import json
import re
import signal
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sampan import failpoints
from sampan.contracts.registry import all_contracts, get_contract
from sampan.errors import PermanentFailure, TransientFailure
from sampan.governance import verify
from sampan.ingest import lake, quarantine, withdraw
from sampan.ingest.withdraw import Chosen
from sampan.object_store import SeaweedFS, seaweedfs
from sampan.settings import HOME, settings

from tests.factory import DAY, in_lake, rows

FEED = "customs_declarations"
CONTRACT = get_contract(FEED)
WRITTEN, REMOVED = {"written": 1, "removed": 0}, {"written": 0, "removed": 1}
NOTHING = {"written": 0, "removed": 0}
NEXT = DAY + timedelta(days=1)


def of_raw(sampan: Any, where: str = "true") -> list[tuple]:
    """Batch, line and stored columns of raw, as `in_lake` gives those of the lake."""
    names = ", ".join(f'"{column.name}"' for column in CONTRACT.stored)
    return sampan.rows(f'select _batch_id, _line, {names} from raw."{FEED}" where {where} order by 1, 2')


def objects(sampan: Any, feed: str = FEED) -> list[str]:
    return [item["Key"] for item in sampan.s3.list_objects_v2(Bucket="lake", Prefix=f"{feed}/").get("Contents", [])]


def put(sampan: Any, key: str, body: bytes) -> None:
    sampan.s3.put_object(Bucket="lake", Key=key, Body=body)


def opened(sampan: Any, key: str) -> pq.ParquetFile:
    return pq.ParquetFile(io.BytesIO(sampan.s3.get_object(Bucket="lake", Key=key)["Body"].read()))


@pytest.fixture
def two(partner):
    """Two published batches of the feed, in the lake."""
    for number, day in enumerate((DAY, NEXT)):
        partner.hands_over(FEED, day, rows(FEED, 40, day, seed=number))
        partner.ingest(FEED)
    assert lake.run(FEED) == {"written": 2, "removed": 0}
    return partner.sampan


def found(*feeds: str) -> list[tuple[int | None, str, str]]:
    _, differences = verify.run(feeds or (FEED,))
    return [(item.batch_id, item.place, item.what) for item in differences]


# --- what is in it ----------------------------------------------------------------------------------------------------


def test_an_object_is_sorted_by_the_key_with_types_statistics_batch_and_line(two):
    first, second = objects(two)
    assert first == f"{FEED}/business_date={DAY}/b1.parquet"
    assert second == f"{FEED}/business_date={NEXT}/b2.parquet"
    parquet = opened(two, first)
    table, key = parquet.read(), list(CONTRACT.key)
    assert table.schema.field("value_hkd").type == pa.decimal128(38, 2)
    assert table.schema.field("movement_date").type == pa.date32()
    assert table.schema.names[-2:] == ["_batch_id", "_line"]
    found = list(zip(*(table[name].to_pylist() for name in key), strict=True))
    assert found == sorted(found)
    assert len(set(found)) == 40
    group = parquet.metadata.row_group(0)
    assert [column.column_index for column in group.sorting_columns] == [table.schema.names.index(name) for name in key]
    assert all(group.column(place).is_stats_set for place in range(group.num_columns))
    assert in_lake(two, FEED) == of_raw(two)


def test_a_batch_is_written_once_and_each_replay_is_an_object_of_its_own(partner, tmp_path):
    given = rows(FEED, 40)
    partner.hands_over(FEED, DAY, [row | ({"value_hkd": "-1"} if n == 0 else {}) for n, row in enumerate(given)])
    partner.ingest(FEED)
    assert [lake.run(FEED), lake.run(FEED, DAY), lake.run(FEED)] == [WRITTEN, NOTHING, NOTHING]
    (entry,) = quarantine.entries(FEED)
    (tmp_path / "one.csv").write_text(f"_quarantine_id,value_hkd\n{entry.quarantine_id},{given[0]['value_hkd']}\n")
    quarantine.replay(FEED, corrected=tmp_path / "one.csv")
    assert len(objects(partner.sampan)) == 2
    assert in_lake(partner.sampan, FEED) == of_raw(partner.sampan)
    assert lake.run(FEED) == NOTHING
    assert found() == []


def test_a_batch_without_rows_is_an_object_without_rows(partner):
    feed = next(name for name, contract in all_contracts().items() if contract.calendar.empty == "accept")
    partner.hands_over(feed, DAY, [])
    batch = partner.ingest(feed)
    assert (batch["state"], batch["rows_published"]) == ("published", 0), batch["problem"]
    assert lake.run(feed) == WRITTEN
    (key,) = objects(partner.sampan, feed)
    assert opened(partner.sampan, key).read().num_rows == 0
    assert found(feed) == []


def test_an_object_has_several_row_groups_and_equals_raw_when_a_batch_is_large(two, monkeypatch):
    monkeypatch.setattr("sampan.ingest.arrow.TABLE_BYTES", 2_000)
    monkeypatch.setattr("sampan.governance.verify.ROWS", 7)
    two.rows("update ops.batch set token = token + 1 where batch_id = 1 returning 1")
    assert lake.run(FEED) == WRITTEN
    assert opened(two, objects(two)[0]).num_row_groups > 3
    monkeypatch.setattr("sampan.ingest.arrow.TABLE_BYTES", 3_000)
    assert found() == []


def test_an_analyst_reads_it_as_the_cookbook_says(partner, object_store, monkeypatch):
    sampan, feed = partner.sampan, "platform_orders"
    for number, day in enumerate((DAY, NEXT)):
        partner.hands_over(feed, day, rows(feed, 40, day, seed=number))
        partner.ingest(feed)
    lake.run(feed)
    page = (HOME / "docs" / "cookbook.md").read_text("utf-8").partition("## Raw rows, from the lake")[2]
    code = re.findall(r"```python\n(.*?)```", page, re.S)
    assert len(code) == 2
    key, secret = json.loads(object_store.partner_keys.read_text())["analyst"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", object_store.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    names: dict[str, Any] = {}
    exec("\n".join(code), names)
    by_day = sampan.rows(
        "select business_date, count(*), sum(payment_cny) from raw.platform_orders"
        " join ops.batch on batch_id = _batch_id group by 1 order by 1"
    )
    assert names["by_day"].sort("business_date").rows() == by_day
    platforms = 'select platform, sum(payment_cny) from raw.platform_orders group by 1 order by platform collate "C"'
    assert names["platforms"].rows() == sampan.rows(platforms)


# --- what leaves it ---------------------------------------------------------------------------------------------------


def test_a_withdrawn_batch_leaves_the_lake_and_the_store_and_comes_back(two, object_store):
    store, (first, second) = seaweedfs(), objects(two)
    (piece,) = store.pieces("lake", first)
    withdraw.run(FEED, Chosen(batch_id=1), "another month", "wong")
    assert objects(two) == [second]
    assert in_lake(two, FEED) == of_raw(two, "_batch_id = 2")
    with store._client() as client:
        assert not store._is_served(client, piece)
    assert found() == []
    withdraw.undo(FEED, Chosen(batch_id=1), "it was right", "chan")
    assert in_lake(two, FEED) == of_raw(two)
    assert found() == []


def test_content_that_left_the_lake_is_not_called_gone_while_it_is_served(two, monkeypatch):
    monkeypatch.setattr(SeaweedFS, "_vacuum", lambda *_: None)
    monkeypatch.setattr("sampan.object_store.PATIENCE", 2)
    two.rows("update ops.batch set state = 'withdrawn' where batch_id = 1 returning 1")
    with pytest.raises(TransientFailure, match="still serves content that left the lake"):
        lake.run(FEED)


def test_a_withdrawal_that_cannot_reach_the_store_stands_and_the_next_run_ends_it(two, monkeypatch, caplog):
    monkeypatch.setenv("SAMPAN_S3_ENDPOINT", "http://127.0.0.1:9")
    settings.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(lake, "run", lambda *_: (_ for _ in ()).throw(TransientFailure("object store: away")))
        withdraw.run(FEED, Chosen(batch_id=1), "another month", "wong")
    assert "the lake of customs_declarations is not up to date yet: object store: away" in caplog.text
    monkeypatch.undo()
    for name, value in two.environment.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    assert [what for _, _, what in found()] == ["is withdrawn or deleted, and its object is not removed yet"]
    assert lake.run(FEED) == REMOVED
    assert found() == []


def test_a_removal_that_died_is_finished_by_the_next_run(two):
    two.rows("update ops.batch set state = 'withdrawn' where batch_id = 1 returning 1")
    died = two.cli("lake", "sync", FEED, SAMPAN_FAILPOINT="lake.after_removal")
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert two.one("select count(*) from ops.lake_object") == 2
    assert lake.run(FEED) == REMOVED
    assert two.rows("select batch_id from ops.lake_object") == [(2,)]


@pytest.mark.parametrize("point", ["lake.before_object", "lake.after_object"])
def test_an_object_is_taken_back_when_its_batch_is_withdrawn_while_it_is_written(partner, monkeypatch, point):
    """Kind of fault: a worker that was frozen goes on with what is not true any more."""
    partner.hands_over(FEED, DAY, rows(FEED, 40))
    partner.ingest(FEED)
    hit, sampan = failpoints.hit, partner.sampan

    def withdrawn(name: str) -> None:
        hit(name)
        if name == point:
            monkeypatch.setattr(failpoints, "hit", hit)
            withdraw.run(FEED, Chosen(batch_id=1), "another month", "wong")

    monkeypatch.setattr(failpoints, "hit", withdrawn)
    assert lake.run(FEED) == NOTHING
    assert objects(sampan) == []
    withdraw.undo(FEED, Chosen(batch_id=1), "it was right", "chan")
    assert in_lake(sampan, FEED) == of_raw(sampan)
    assert found() == []


def test_nothing_is_written_when_it_is_off_and_what_leaves_raw_leaves_the_lake(two, monkeypatch):
    monkeypatch.setenv("SAMPAN_LAKE", "off")
    settings.cache_clear()
    assert lake.run(FEED) == NOTHING
    withdraw.run(FEED, Chosen(batch_id=1), "another month", "wong")
    withdraw.undo(FEED, Chosen(batch_id=1), "it was right", "chan")
    assert len(objects(two)) == 1
    assert found() == []
    # A store without the bucket is not asked.
    monkeypatch.setenv("SAMPAN_LAKE_BUCKET", "never-made")
    settings.cache_clear()
    assert lake.run("platform_orders") == NOTHING
    assert found("platform_orders") == []


def test_it_is_off_or_on(monkeypatch, two):
    monkeypatch.setenv("SAMPAN_LAKE", "maybe")
    settings.cache_clear()
    with pytest.raises(PermanentFailure, match="SAMPAN_LAKE is 'maybe', expected on or off"):
        lake.run(FEED)


def test_a_bucket_that_is_missing_is_a_permanent_failure_that_says_what_to_do(two, monkeypatch):
    monkeypatch.setenv("SAMPAN_LAKE_BUCKET", "never-made")
    settings.cache_clear()
    with pytest.raises(PermanentFailure, match=r"bucket never-made: .*\[lake\.refused\]"):
        lake.run(FEED)


def test_a_value_that_no_type_of_the_lake_takes_keeps_only_its_batch_out(two):
    """PostgreSQL's numbers have no end. The value is in no message."""
    two.rows(f"update raw.{FEED} set value_hkd = 3e37 where _batch_id = 1 and _line = 2 returning 1")
    two.rows("update ops.batch set token = token + 1 returning 1")
    with pytest.raises(
        PermanentFailure, match=r"batch 1 has a value in value_hkd that does not fit .*lake\.value"
    ) as told:
        lake.run(FEED)
    assert "3000" not in str(told.value)
    assert objects(two) == [f"{FEED}/business_date={NEXT}/b2.parquet"]
    assert found() == [(1, "lake", "is not written yet")]


# --- what differs, and what heals -------------------------------------------------------------------------------------


def test_verify_finds_what_was_changed_taken_away_and_put_there_and_sync_heals_it(two):
    first, second = objects(two)
    assert found() == []
    whole = two.s3.get_object(Bucket="lake", Key=first)["Body"].read()
    put(two, first, whole[:99] + bytes([whole[99] ^ 1]) + whole[100:])
    two.s3.delete_object(Bucket="lake", Key=second)
    put(two, f"{FEED}/business_date={DAY}/b99.parquet", whole)
    put(two, f"{FEED}/notes.txt", b"mine")
    assert found() == [
        (1, "lake", f"{first} was changed: its SHA-256 is not the one that the ledger has"),
        (2, "lake", f"{second} is missing"),
        (None, "lake", f"{FEED}/business_date={DAY}/b99.parquet is of no batch of the ledger"),
        (None, "lake", f"{FEED}/notes.txt is of no batch of the ledger"),
    ]
    told = two.cli("lake", "verify", FEED)
    assert told.returncode == 1
    assert f"{second} is missing" in told.stdout
    assert "4 differences" in told.stderr
    healed = two.cli("lake", "sync", FEED)
    assert (healed.returncode, healed.stdout) == (0, "lake: 2 written, 2 removed\n"), healed.stderr
    assert in_lake(two, FEED) == of_raw(two)
    assert found() == []
    assert two.cli("lake", "verify", FEED).returncode == 0


def test_verify_finds_rows_that_raw_and_the_lake_do_not_share(two):
    first, _ = objects(two)
    two.rows(f"update raw.{FEED} set value_hkd = value_hkd + 1 where _batch_id = 1 and _line = 7 returning 1")
    assert found() == [(1, "lake", f"{first} differs from raw in value_hkd of line 7")]
    two.rows(f"delete from raw.{FEED} where _batch_id = 1 and _line = 7 returning 1")
    ((_, _, what),) = found()
    assert what == f"{first} has 40 rows, and 40 when it was written; raw has 39, the ledger 40"


def test_verify_finds_an_object_with_other_columns(two):
    first, _ = objects(two)
    body = io.BytesIO()
    pq.write_table(opened(two, first).read().drop_columns(["trader_name"]), body)
    put(two, first, body.getvalue())
    two.rows(
        "update ops.lake_object set content_sha256 = encode(sha256(%s), 'hex') where batch_id = 1 returning 1",
        body.getvalue(),
    )
    assert found() == [(1, "lake", f"{first} has other columns than raw.{FEED}")]
    assert lake.run(FEED) == WRITTEN
    assert found() == []


def test_verify_finds_a_landed_delivery_that_is_damaged_or_lost(two):
    bucket = settings().landing_bucket
    keys = [
        uri.removeprefix(f"s3://{bucket}/")
        for (uri,) in two.rows("select landing_uri from ops.batch order by batch_id")
    ]
    whole = two.s3.get_object(Bucket=bucket, Key=keys[0])["Body"].read()
    two.s3.put_object(Bucket=bucket, Key=keys[0], Body=whole[:-1] + bytes([whole[-1] ^ 1]))
    two.s3.delete_object(Bucket=bucket, Key=keys[1])
    assert found() == [
        (1, "landing", f"{keys[0].rsplit('/', 1)[-1]} is damaged"),
        (2, "landing", f"{keys[1].rsplit('/', 1)[-1]} cannot be read (NoSuchKey)"),
    ]


def test_an_object_is_written_again_when_its_feed_has_gained_a_column(two, monkeypatch):
    assert lake.run(FEED) == NOTHING
    monkeypatch.setattr(lake, "layout_of", lambda _: "0" * 64)
    assert lake.run(FEED) == {"written": 2, "removed": 0}
    assert lake.run(FEED) == NOTHING


def test_sync_goes_on_with_the_other_feeds_when_one_fails(two, monkeypatch):
    run, asked = lake.run, []

    def failing(feed: str) -> dict[str, int]:
        asked.append(feed)
        if feed == FEED:
            raise TransientFailure("away")
        return run(feed)

    monkeypatch.setattr(lake, "run", failing)
    with pytest.raises(TransientFailure, match="away"):
        lake.sync([FEED, "platform_orders"])
    assert asked == [FEED, "platform_orders"]
