"""Partitions of closed months are merged without a change of rows. All values are synthetic."""

from __future__ import annotations

from datetime import date

import psycopg
import pytest
from sampan import failpoints
from sampan.errors import TransientFailure
from sampan.governance import compaction, retention
from sampan.settings import settings

from tests.integration.published import publish as published

FEED = "customs_declarations"


def partitions_of(sampan) -> list[str]:
    return [
        name
        for (name,) in sampan.rows(
            "select c.relname from pg_inherits join pg_class c on c.oid = inhrelid"
            " where inhparent = 'raw.customs_declarations'::regclass order by 1"
        )
    ]


def test_compact_merges_the_partitions_of_a_closed_month_and_changes_no_row(sampan):
    for day in ("2026-05-04", "2026-05-05", "2026-06-01", "2026-06-02", "2026-07-01"):
        published(FEED, day, [{"declaration_no": f"D{day}", "line_no": line} for line in (1, 2)])
    content = "select r::text from raw.customs_declarations r order by 1"
    before = sampan.rows(content)
    assert len(before) == 10
    assert compaction.compact(date(2026, 7, 20)) == {"before": 2, "after": 1}
    assert partitions_of(sampan)[-1] == "customs_declarations__m202605_2_2"
    assert len(partitions_of(sampan)) == 4
    assert compaction.compact(date(2026, 7, 20)) == {"before": 0, "after": 0}
    assert sampan.rows(content) == before
    # A later batch of the month is merged in too, and the key stays unique.
    late = published(FEED, "2026-05-05", [{"declaration_no": "Dlate"}])
    assert compaction.compact(date(2026, 8, 20)) == {"before": 4, "after": 2}
    assert len(partitions_of(sampan)) == 3
    assert len(sampan.rows(content)) == 11
    twice = (
        "insert into raw.customs_declarations select * from raw.customs_declarations where _batch_id = %s returning 1"
    )
    with pytest.raises(psycopg.errors.UniqueViolation):
        sampan.rows(twice, late)
    # Retention deletes a batch from a partition, and drops the partition with its last batch.
    for batch, name in ((late, 3), (1, 3), (2, 2)):
        with psycopg.connect(settings().dsn("loader")) as connection:
            assert retention._drop_from_raw(connection, FEED, batch) > 0
            connection.execute("update ops.batch set deleted_at = now() where batch_id = %s", [batch])
        assert len(partitions_of(sampan)) == name


def test_compact_merges_again_when_a_batch_with_a_lower_number_is_published_later(sampan):
    late, *others = (published(FEED, f"2026-05-0{n}", [{"declaration_no": f"D{n}"}]) for n in (4, 5, 6))
    parent, partition = "raw.customs_declarations", f"raw.customs_declarations__b{late}"
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as connection:
        connection.execute(f"alter table {parent} detach partition {partition}")
        assert compaction.compact(date(2026, 7, 20)) == {"before": 2, "after": 1}
        connection.execute(f"alter table {parent} attach partition {partition} for values in ({late})")
    assert others[-1] > late
    assert compaction.compact(date(2026, 7, 20)) == {"before": 2, "after": 1}
    assert partitions_of(sampan) == [f"customs_declarations__m202605_{others[-1]}_3"]
    assert sampan.one(f"select count(*) from {parent}") == 3


def test_compact_changes_nothing_when_it_crashes(sampan, monkeypatch):
    for day in ("2026-05-04", "2026-05-05"):
        published(FEED, day, [{"declaration_no": f"D{day}"}])
    before = partitions_of(sampan)

    def crash(place: str) -> None:
        if place == "compaction.before_commit":
            raise psycopg.errors.AdminShutdown("crash")

    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "hit", crash)
        with pytest.raises(TransientFailure):
            compaction.compact(date(2026, 7, 20))
    assert partitions_of(sampan) == before
    assert len(before) == 2
