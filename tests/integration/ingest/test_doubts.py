"""What is published as it came, though its partner may not have meant it so.

Kind of fault: a delivery that is sound on its own and wrong beside the others (a part that takes the place of a part, an old
file again, a failed upload) changes the figures, and no one is told.
"""

from __future__ import annotations

import gzip
from datetime import timedelta

import pytest
from sampan.contracts.registry import get_contract
from sampan.governance import retention
from sampan.monitoring import status

from tests.factory import DAY, encode, feeds, rows
from tests.integration.ingest.deliveries import CUSTOMS, FILES, name_of

REPLACING = feeds(lambda c: c.corrections == "replace_period" and c.source.kind == "s3", least=2)
EMPTY_LINES = feeds(lambda c: c.source.format == "jsonl" and c.source.kind == "s3" and c.calendar.empty == "accept")
WHOLE_LISTS = feeds(lambda c: c.calendar.unchanged == "accept")
NEXT = DAY + timedelta(days=1)


def alerts(sampan, kind: str) -> list[str]:
    return [text for (text,) in sampan.rows("select message from ops.alert where kind = %s order by alert_id", kind)]


def deliver(sampan, feed: str, given, name: str = "", day=DAY) -> None:
    sampan.deliver(feed, day, name or name_of(feed), encode(get_contract(feed), given))


# --- two parts of one delivery ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False], ids=["in one run", "in two runs"])
@pytest.mark.parametrize("feed", REPLACING)
def test_the_owner_hears_when_a_part_takes_the_place_of_another_part(feed, together, sampan):
    given, ending = rows(feed, 40), get_contract(feed).source.extension
    deliver(sampan, feed, given[:20], f"list-part1of2.{ending}")
    if not together:
        sampan.ingest(feed)
    deliver(sampan, feed, given[20:], f"list-part2of2.{ending}")
    sampan.ingest(feed)
    assert sampan.rows("select state, rows_published from ops.batch order by 1, 2") == [("published", 20)] * 2
    (message,) = alerts(sampan, "replaced")
    names = {f"list-part1of2.{ending}", f"list-part2of2.{ending}"}
    assert "20 of the 20 rows there" in message
    assert all(name in message for name in names)
    assert "the newest delivery of a date counts alone" in message
    assert [kind for _, _, kind, _, _ in status.newest_alerts(7, 10)] == ["replaced"]


@pytest.mark.parametrize("feed", REPLACING)
def test_nobody_hears_when_a_delivery_corrects_the_one_before(feed, sampan):
    given = rows(feed, 21)
    deliver(sampan, feed, given[:20])
    sampan.ingest(feed)
    # Some rows were taken out and one was added, as corrections do.
    deliver(sampan, feed, given[4:], f"again.{get_contract(feed).source.extension}")
    sampan.ingest(feed)
    assert alerts(sampan, "replaced") == []


def test_nobody_hears_when_parts_count_together(sampan):
    given = rows(CUSTOMS, 40)
    deliver(sampan, CUSTOMS, given[:20], "part-00000.csv.gz")
    deliver(sampan, CUSTOMS, given[20:], "part-00001.csv.gz")
    sampan.ingest(CUSTOMS)
    assert sampan.rows("select message from ops.alert") == []


def test_status_shows_what_owners_were_alerted_of(sampan):
    feed = REPLACING[0]
    given, ending = rows(feed, 40), get_contract(feed).source.extension
    deliver(sampan, feed, given[:20], f"a.{ending}")
    deliver(sampan, feed, given[20:], f"b.{ending}")
    sampan.ingest(feed)
    shown = " ".join(sampan.cli("status").stdout.split())
    assert "Other alerts of the last 7 days" in shown
    assert "replaced" in shown


def test_alerts_forget_names_of_files_that_retention_has_deleted(sampan):
    feed = REPLACING[0]
    contract, given = get_contract(feed), rows(feed, 40)
    first, second = (f"list of Chan Tai Man {part}.{contract.source.extension}" for part in (1, 2))
    deliver(sampan, feed, given[:20], first)
    deliver(sampan, feed, given[20:], second)
    sampan.deliver(feed, DAY, f"{first}.md5", b"0" * 32)
    sampan.ingest(feed)
    assert {kind for _, _, kind, _, _ in status.newest_alerts(7, 10)} == {"replaced", "checksum"}
    assert "Chan Tai Man" in str(status.newest_alerts(7, 10))
    retention.run(NEXT + timedelta(days=contract.retention_days + 400))
    assert sampan.one("select count(*) from ops.delivery where deleted_at is null") == 0
    assert "Chan Tai Man" not in str(status.newest_alerts(7, 10))


# --- an old file again ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feed", [feed for feed in FILES if feed not in WHOLE_LISTS])
def test_the_owner_hears_when_the_rows_are_those_of_another_date(feed, sampan):
    given = rows(feed, 5)
    deliver(sampan, feed, given)
    sampan.ingest(feed)
    deliver(sampan, feed, given, day=NEXT)
    sampan.ingest(feed)
    batches = sampan.rows("select business_date, state, rows_published from ops.batch order by 1")
    assert batches == [(DAY, "published", 5), (NEXT, "published", 5)], sampan.batch(feed)["problem"]
    (message,) = alerts(sampan, "stale")
    assert f"batch 2 of {NEXT}, {name_of(feed)}: it has the same 5 rows as batch 1 of {DAY}" in message
    assert f"have that of {NEXT} delivered" in message


def test_the_owner_hears_of_rows_of_another_date_when_they_are_packed_anew(sampan):
    body = encode(get_contract(CUSTOMS), rows(CUSTOMS, 5))
    sampan.deliver(CUSTOMS, DAY, "a.csv.gz", body)
    sampan.deliver(CUSTOMS, NEXT, "b.csv.gz", gzip.compress(gzip.decompress(body), 1, mtime=77))
    sampan.ingest(CUSTOMS)
    assert sampan.one("select count(distinct content_sha256) from ops.batch") == 2
    assert len(alerts(sampan, "stale")) == 1


def test_the_owner_hears_of_rows_of_another_date_when_they_come_in_another_order(sampan):
    given = rows(CUSTOMS, 150)
    deliver(sampan, CUSTOMS, given)
    deliver(sampan, CUSTOMS, given[::-1], day=NEXT)
    sampan.ingest(CUSTOMS)
    assert len(alerts(sampan, "stale")) == 1


@pytest.mark.parametrize("place", [0, 149], ids=["first", "last"])
def test_nobody_hears_when_one_row_of_as_many_differs(place, sampan):
    """The first hundred rows are looked up before all are compared."""
    given = rows(CUSTOMS, 150)
    deliver(sampan, CUSTOMS, given)
    changed = given[place] | {"goods_description": "Synthetic other goods"}
    deliver(sampan, CUSTOMS, [*given[:place], changed, *given[place + 1 :]], day=NEXT)
    sampan.ingest(CUSTOMS)
    assert sampan.rows("select message from ops.alert") == []


@pytest.mark.parametrize("feed", WHOLE_LISTS)
def test_nobody_hears_when_a_whole_list_has_not_changed(feed, sampan):
    for day in (DAY, NEXT):
        deliver(sampan, feed, rows(feed, 5), day=day)
    sampan.ingest(feed)
    assert sampan.rows("select message from ops.alert") == []


def test_nobody_hears_when_the_rows_of_two_dates_differ(sampan):
    deliver(sampan, CUSTOMS, rows(CUSTOMS, 5))
    deliver(sampan, CUSTOMS, rows(CUSTOMS, 5, seed=1), day=NEXT)
    sampan.ingest(CUSTOMS)
    assert sampan.rows("select message from ops.alert") == []


@pytest.mark.parametrize("feed", feeds(lambda c: c.source.kind == "s3" and c.calendar.empty == "accept", least=5))
def test_nobody_hears_when_nothing_is_told_on_two_days(feed, sampan):
    body = encode(get_contract(feed), []) or b"\n"
    for day in (DAY, NEXT):
        sampan.deliver(feed, day, name_of(feed), body)
    sampan.ingest(feed)
    assert sampan.rows("select state, rows_published from ops.batch") == [("published", 0)] * 2
    assert sampan.rows("select message from ops.alert where kind <> 'rejected'") == []


# --- nothing at all ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feed", EMPTY_LINES)
def test_the_owner_hears_of_0_bytes_where_an_empty_delivery_is_accepted(feed, sampan):
    sampan.deliver(feed, DAY, name_of(feed), b"")
    sampan.ingest(feed)
    assert sampan.batch(feed)["state"] == "published"
    (message,) = alerts(sampan, "empty")
    assert f"batch 1 of {DAY}, {name_of(feed)}: it has 0 bytes" in message


@pytest.mark.parametrize("feed", feeds(lambda c: c.source.kind == "s3" and c.source.format != "jsonl", least=5))
def test_0_bytes_are_held_where_a_format_has_a_header(feed, sampan):
    sampan.deliver(feed, DAY, name_of(feed), b"")
    sampan.ingest(feed)
    assert sampan.batch(feed)["state"] == "held"
