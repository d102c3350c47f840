"""Builds after batches were withdrawn, put back, or rolled back by the partner. All values are synthetic."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random

import psycopg
import pytest
from sampan.calendar import HONG_KONG
from sampan.contracts.registry import get_contract
from sampan.database import connect
from sampan.ingest import land, withdraw
from sampan.ingest.withdraw import Chosen
from sampan.marts import as_known, build, release
from sampan.settings import settings

from tests.conftest import Sampan
from tests.integration.marts.test_build import BATCHES, _shared_state, dbt_folder, full, spine
from tests.integration.published import publish

__all__ = ["_shared_state", "dbt_folder"]
FEED = "customs_declarations"
WHY = "not what it says"


def tables(sampan: Sampan) -> dict[str, list[str]]:
    """All rows of the persistent tables, without the number of the build that wrote each."""
    names = """
        select c.relname, string_agg(quote_ident(a.attname), ', ' order by a.attname)
        from pg_class as c
        join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where c.relnamespace = 'intermediate'::regnamespace and c.relkind = 'r' and a.attname <> 'build_no'
        group by c.relname
    """
    found = {
        table: sorted(row for (row,) in sampan.rows(f"select ({columns})::text from intermediate.{table}", role="builder"))
        for table, columns in sampan.rows(names)
    }  # fmt: skip
    assert sum(map(bool, found.values())) > 10
    return found


def forget(sampan: Sampan) -> int:
    """Delete withdrawn batches from everywhere, as if they had never come. Returns how many there were."""
    gone = sampan.rows("select batch_id, feed from ops.batch where state = 'withdrawn' order by replays nulls last, 1")
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as connection:
        for batch_id, feed in gone:
            connection.execute(f"delete from raw.{feed} where _batch_id = %s", [batch_id])
        numbers = [batch_id for batch_id, _ in gone]
        connection.execute("delete from ops.withdrawal")
        connection.execute("delete from ops.build_batch where batch_id = any(%s)", [numbers])
        connection.execute("delete from ops.batch where batch_id = any(%s)", [numbers])
    return len(gone)


def rolls_back(batch_id: int, to: datetime) -> None:
    """The partner delivers the content of a batch once more."""
    with connect() as connection, connection.transaction():
        ((feed, day, sha),) = connection.execute(
            "select feed, business_date, content_sha256 from ops.batch where batch_id = %s", [batch_id]
        ).fetchall()
        land._take_back(connection, get_contract(feed), "again.csv", day, sha, to)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 12))
def test_a_build_is_as_if_withdrawn_batches_had_never_come_whatever_happened_before(seed, sampan, models_only):
    """Random withdrawals, their undoing, rollbacks, late batches and builds that failed, with builds between them."""
    random = Random(seed)
    numbers: dict[str, int] = {}
    for name, (feed, day, received_at, replays, rows) in BATCHES.items():
        source = numbers[replays] if replays else None
        numbers[name] = publish(feed, day, rows, received_at=received_at, replays=source, state="gated")
    at = datetime(2026, 7, 25, tzinfo=HONG_KONG)
    what = "select batch_id, feed from ops.batch where state = %s and origin = 'delivery' order by 1"

    def some(state: str, share: float) -> list[tuple[int, str]]:
        return [row for row in sampan.rows(what, state) if random.random() < share]

    for turn in range(3):
        # A replay is published after the delivery whose rows it replays.
        for batch_id, _ in some("gated", 0.7 if turn < 2 else 1):
            sampan.rows("update ops.batch set state = 'published' where batch_id = %s returning 1", batch_id)
        sampan.rows("""
            update ops.batch as b set state = 'published'
            where state = 'gated' and replays in (select batch_id from ops.batch where state = 'published')
            returning 1
        """)
        # A withdrawal of what was built makes a full refresh; the others are merged, so they have a turn of their own.
        if turn == 1:
            for batch_id, feed in some("published", 0.4):
                withdraw.run(feed, Chosen(batch_id=batch_id), WHY, "wong")
        if turn == 2:
            for batch_id, feed in some("withdrawn", 0.5):
                withdraw.undo(feed, Chosen(batch_id=batch_id), WHY, "wong")
            for name in ("first", "list", "policies changed"):
                at += timedelta(minutes=1)
                rolls_back(numbers[name], at)
        if random.random() < 0.3:
            build.run("staging")
            sampan.rows("update ops.build set state = 'failed', problem = '{}' where state = 'open' returning 1")
        spine()
    assert sampan.one("select count(*) from ops.withdrawal where undone_at is not null") > 0
    assert sampan.one("select count(*) from ops.batches_waiting") == 0
    step_by_step = tables(sampan)
    assert forget(sampan) > 0
    spine(full_refresh=True)
    assert tables(sampan) == step_by_step


@pytest.mark.slow
def test_a_release_is_without_what_was_withdrawn_and_a_look_back_has_it(sampan, models_only):
    day = "2026-07-{:02}"
    for number, value in ((6, 5), (7, 600)):
        line = {"declaration_no": f"DDDDDDDD{number:02}", "value_hkd": value}
        wrong = publish(FEED, day.format(number), [line])
    first = full()
    total = "select sum(value_hkd) from {}.mart_exports_monthly"
    assert sampan.one(total.format("marts"), role="bi") == 605
    before = sampan.one("select clock_timestamp()")
    withdraw.run(FEED, Chosen(batch_id=wrong), WHY, "wong")
    second = release.refresh()["release_no"]
    assert sampan.one(total.format("marts"), role="bi") == 5
    contained = "select release_no, count(*) from ops.release_batch group by 1 order by 1"
    assert sampan.rows(contained) == [(first, 2), (second, 1)]
    assert release.show(first)["batches"] == {FEED: "2"}
    assert release.show(second)["batches"] == {FEED: "0, 1 taken out"}
    quality = f"select published_batch_count, last_loaded_date::text from marts.mart_data_quality where feed = '{FEED}'"
    assert sampan.rows(quality, role="bi") == [(1, day.format(6))]
    known = as_known.run(before.astimezone(HONG_KONG))["schema"]
    assert sampan.one(total.format(known), role="bi") == 605
    as_known.drop(known)
    known = as_known.run(before.astimezone(HONG_KONG), "delivered")["schema"]
    assert sampan.one(total.format(known), role="bi") == 5
    as_known.drop(known)
    withdraw.undo(FEED, Chosen(batch_id=wrong), "it was right", "wong")
    release.refresh()
    assert sampan.one(total.format("marts"), role="bi") == 605
