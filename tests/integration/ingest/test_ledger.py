"""The ledger: identity, addition, fencing, order, and steps that may be run again."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from datetime import timedelta

import psycopg
import pytest
from sampan import alerts, object_store
from sampan.contracts.registry import get_contract
from sampan.database import connect
from sampan.errors import PermanentFailure, Problem, TransientFailure
from sampan.ingest import fetch, gate, land, ledger, load, publish, status
from sampan.settings import settings
from structlog.contextvars import get_contextvars

from tests.factory import DAY, FEEDS, adds_up, encode, representative_feeds, rows, stored

FEED = "customs_declarations"
STEPS = (land, load, gate, publish)
COUNTS = ("rows_in", "rows_published", "rows_quarantined", "rows_duplicate")
TABLES = ("ops.batch", "ops.delivery", "ops.drift", "quarantine.record", "ops.replay_line")


def snapshot(sampan, *ignored: str) -> dict[str, list]:
    """All of the ledger and of raw, less columns that only say when."""
    drop = "".join(f" - '{name}'" for name in ("checked_at", *ignored))
    tables = [*TABLES, "ops.gate_result", *(f'raw."{feed}"' for feed in FEEDS)]
    return {table: sorted(map(str, sampan.rows(f"select to_jsonb(t) {drop} from {table} t"))) for table in tables}


@pytest.mark.parametrize("feed", representative_feeds(FEEDS))
def test_every_step_changes_nothing_when_it_is_run_again(feed, partner):
    given = rows(feed, 60)
    if get_contract(feed).budget > 1 / 60:
        given[3][get_contract(feed).key[0]] = None
    partner.hands_over(feed, DAY, given)
    for step in STEPS:
        first = step.run(feed)
        before = snapshot(partner.sampan)
        again = step.run(feed)
        assert snapshot(partner.sampan) == before, step.__name__
        assert sum(first.values()) > 0
        assert sum(again.values()) == 0, step.__name__


def test_fetch_notes_nothing_new_when_it_is_run_again(partner):
    partner.hands_over(FEED, DAY, rows(FEED, 3))
    before = snapshot(partner.sampan)
    assert fetch.run(FEED) == {"seen": 0}
    assert snapshot(partner.sampan) == before


def test_ingest_gives_the_same_raw_when_deliveries_come_out_of_order(partner):
    days = [DAY + timedelta(days=n) for n in range(4)]
    by_day = {day: rows(FEED, 6, day) for day in days}
    for day in (days[2], days[0], days[3], days[1]):
        partner.hands_over(FEED, day, by_day[day])
        partner.ingest(FEED)
    assert partner.raw(FEED) == stored(get_contract(FEED), [row for day in days for row in by_day[day]])
    adds_up(partner.sampan)


def test_steps_take_batches_in_order_of_date_when_several_wait(partner, caplog):
    caplog.set_level("INFO", "sampan.ingest.load")
    days = [DAY + timedelta(days=n) for n in (2, 0, 1)]
    for day in days:
        partner.hands_over(FEED, day, rows(FEED, 2, day))
    partner.ingest(FEED)
    order = partner.sampan.rows("select business_date from ops.batch order by loaded_at")
    assert [day for (day,) in order] == sorted(days)


def test_steps_leave_other_dates_alone_when_one_is_named(partner):
    for day in (DAY, DAY + timedelta(days=1)):
        partner.hands_over(FEED, day, rows(FEED, 2, day))
    partner.ingest(FEED, DAY)
    states = partner.sampan.rows("select business_date, state from ops.batch order by 1")
    assert states == [(DAY, "published")]
    assert partner.sampan.one("select count(*) from ops.delivery where batch_id is null") == 1


# --- the database itself ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("rows_published = rows_published + 1", "rows_add_up"),
        ("rows_duplicate = 1", "rows_add_up"),
        *((f"{count} = null", "published_is_counted") for count in COUNTS),
        ("state = 'held', problem = null", "held_has_a_reason"),
        ("state = 'lost'", "batch_state_check"),
        ("content_sha256 = 'x'", "batch_content_sha256_check"),
        ("origin = 'replay'", "replay_has_a_source"),
    ],
)
def test_the_database_refuses_a_ledger_row_when_it_does_not_add_up(change, constraint, partner):
    partner.hands_over(FEED, DAY, rows(FEED, 3))
    partner.ingest(FEED)
    with pytest.raises(psycopg.errors.CheckViolation) as refused, connect() as connection:
        connection.execute(f"update ops.batch set {change}")
    assert refused.value.diag.constraint_name == constraint


# --- fencing ----------------------------------------------------------------------------------------------------------


def waiting(partner, state: str) -> ledger.Batch:
    partner.hands_over(FEED, DAY, rows(FEED, 3))
    for step, after in zip(STEPS, ("landed", "loaded", "gated"), strict=False):
        step.run(FEED)
        if after == state:
            break
    with connect() as connection:
        (batch,) = ledger.pending(connection, FEED, state, None)
    return batch


@pytest.mark.parametrize(
    ("state", "work"),
    [
        ("landed", load.load_batch),
        ("loaded", gate._gate),
        ("gated", publish._publish),
    ],
)
def test_a_stale_worker_is_refused_and_changes_nothing_when_another_has_claimed_its_batch(state, work, partner):
    batch = waiting(partner, state)
    with connect() as connection:
        stale = ledger.claim(connection, batch)
        fresh = ledger.claim(connection, batch)
        assert stale.token + 1 == fresh.token
        before = snapshot(partner.sampan)
        with pytest.raises(ledger.StaleClaim):
            work(connection, get_contract(FEED), stale)
        assert snapshot(partner.sampan) == before
        with pytest.raises(ledger.StaleClaim):
            ledger.hold(connection, stale, Problem("x", "x"))
        assert snapshot(partner.sampan) == before
        work(connection, get_contract(FEED), fresh)
    for step in STEPS:
        step.run(FEED)
    assert partner.sampan.batch(FEED)["rows_published"] == 3
    adds_up(partner.sampan)


def test_claim_gives_nothing_when_the_batch_has_moved_on(partner):
    batch = waiting(partner, "landed")
    load.run(FEED)
    with connect() as connection:
        assert ledger.claim(connection, batch) is None


@pytest.mark.parametrize("state", ["landed", "loaded", "gated"])
def test_a_batch_is_done_once_when_two_workers_take_it_at_the_same_time(state, partner):
    waiting(partner, state)
    step = STEPS[("landed", "loaded", "gated").index(state) + 1]
    outcomes, gun = [], threading.Barrier(4)

    def work() -> None:
        gun.wait()
        try:
            outcomes.append(step.run(FEED)["batches"])
        except TransientFailure:
            outcomes.append(0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for later in STEPS:
        later.run(FEED)
    assert len(outcomes) == 4
    assert sum(outcomes) <= 1
    assert partner.raw(FEED) == stored(get_contract(FEED), rows(FEED, 3))
    adds_up(partner.sampan)


# --- failures ---------------------------------------------------------------------------------------------------------


def test_the_next_batch_is_processed_when_one_fails_permanently(partner):
    partner.puts(FEED, DAY, "bad.csv.gz", b"this is not gzip")
    partner.hands_over(FEED, DAY + timedelta(days=1), rows(FEED, 3))
    partner.ingest(FEED)
    states = partner.sampan.rows("select state from ops.batch order by business_date")
    assert states == [("held",), ("published",)]


def test_notify_owner_names_every_held_and_refused_delivery_when_asked(partner, caplog):
    since = ledger.now()
    ledger.notify_owner(FEED, since)
    partner.puts(FEED, DAY, "bad.csv.gz", b"this is not gzip")
    partner.puts(FEED, "latest", "lost.csv.gz", b"x")
    partner.ingest(FEED)
    with pytest.raises(PermanentFailure) as told:
        ledger.notify_owner(FEED, since)
    ((message,),) = partner.sampan.rows("select message from ops.alert")
    for part in (
        "bad.csv.gz",
        "delivery.corrupt",
        "lost.csv.gz",
        "delivery.no_business_date",
        get_contract(FEED).contact,
    ):
        assert part in message
    # The reasons first, each on a line, then the failure, which is short.
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert ["bad.csv.gz" in line for line in lines] == [True, False]
    assert ["lost.csv.gz" in line for line in lines] == [False, True]
    assert re.fullmatch(
        r"2 of customs_declarations held or refused: batch \d+, lost\.csv\.gz; the lines above say why, and .* is to be told"
        r" \[batch\.held\]; see docs/problems\.md#batchheld",
        str(told.value),
    )
    assert message.startswith(f"2 held or refused, for {get_contract(FEED).owner} <")
    ledger.notify_owner(FEED, ledger.now())


def test_a_missed_deadline_alerts_with_the_run_and_the_minutes(sampan):
    asyncio.run(alerts.deadline_missed(FEED, 60, {"dag_run": {"dag_run_id": "run_7"}}))
    assert sampan.rows("select kind, feed, message from ops.alert") == [
        ("deadline", FEED, f"ingest__{FEED}: run_7 did not finish within 60 minutes of being queued")
    ]


def test_a_run_that_has_ended_missed_no_deadline(sampan):
    """Kind of fault: each held delivery makes its run fail, and an hour later a second, untrue alert."""
    run = {"dag_run_id": "run_7", "state": "failed", "end_date": "2026-07-06T01:02:03Z"}
    asyncio.run(alerts.deadline_missed(FEED, 60, {"dag_run": run}))
    assert sampan.rows("select message from ops.alert") == []


def test_what_was_held_and_replaced_in_one_run_is_no_problem(partner):
    """Kind of fault: three answers to whether anything is held; a run is red for what is solved."""
    since = ledger.now()
    body = encode(get_contract(FEED), rows(FEED, 40))
    partner.puts(FEED, DAY, "cut.csv.gz", body[: len(body) // 2])
    # Object stores keep whole seconds: a second object of a date must be received measurably later.
    time.sleep(1.1)
    partner.puts(FEED, DAY, "whole.csv.gz", body)
    assert partner.ingest(FEED)["state"] == "published"
    ledger.notify_owner(FEED, since)
    assert partner.sampan.rows("select message from ops.alert") == []
    assert partner.sampan.rows("select state from ops.batch order by batch_id") == [("held",), ("published",)]
    (totals,) = status.totals()
    assert dict(zip(status.TOTALS, totals, strict=True)) | {"held": 0, "held, replaced": 1} == dict(
        zip(status.TOTALS, totals, strict=True)
    )
    assert partner.sampan.rows("select batch_id from ops.open_problem") == []


def test_the_step_that_held_a_delivery_fails_unless_a_later_one_of_its_date_is_on_its_way(partner):
    """Kind of fault: the step that held a delivery is green, and one at the end is red for every cause."""
    since, body = ledger.now(), encode(get_contract(FEED), rows(FEED, 40))
    partner.puts(FEED, DAY, "cut.csv.gz", body[: len(body) // 2])
    assert land.run(FEED)["landed"] == 1
    ledger.require_none_held(FEED, since)
    assert load.run(FEED)["held"] == 1
    with pytest.raises(
        PermanentFailure, match=r"1 of customs_declarations held or refused: batch \d+; the lines above"
    ):
        ledger.require_none_held(FEED, since)
    partner.sampan.rows("update ops.batch set received_at = received_at - interval '1 minute' returning 1")
    partner.puts(FEED, DAY, "whole.csv.gz", body)
    land.run(FEED)
    ledger.require_none_held(FEED, since)
    for step in (load, gate, publish):
        step.run(FEED)
    ledger.require_none_held(FEED, since)
    partner.puts(FEED, "latest", "lost.csv.gz", b"x")
    land.run(FEED)
    with pytest.raises(PermanentFailure, match=r"held or refused: lost\.csv\.gz"):
        ledger.require_none_held(FEED, since)


def test_log_lines_of_a_batch_have_feed_batch_and_rule_as_fields(partner, monkeypatch):
    seen = []
    original = ledger.log.warning

    def warning(*arguments):
        seen.append(get_contextvars())
        original(*arguments)

    monkeypatch.setattr(ledger.log, "warning", warning)
    partner.puts(FEED, DAY, "bad.csv.gz", b"this is not gzip")
    partner.ingest(FEED)
    number = partner.sampan.batch(FEED)["batch_id"]
    assert seen == [{"feed": FEED, "batch": number, "rule": "delivery.corrupt"}]
    assert get_contextvars() == {}


def test_notify_owner_names_what_was_refused_now_though_it_was_seen_before(partner):
    partner.puts(FEED, "latest", "lost.csv.gz", b"x")
    fetch.run(FEED)
    since = ledger.now()
    assert (fetch.run(FEED)["seen"], land.run(FEED)["refused"]) == (0, 1)
    with pytest.raises(PermanentFailure, match=r"lost\.csv\.gz"):
        ledger.notify_owner(FEED, since)
    assert partner.sampan.one("select count(*) from ops.alert") == 1


def test_what_was_published_since_a_time_is_known_to_a_task_that_begins_again(partner):
    before = ledger.now()
    partner.hands_over(FEED, DAY, rows(FEED, 3))
    partner.ingest(FEED)
    assert publish.run(FEED)["batches"] == 0
    assert publish.is_published_since(FEED, before)
    assert not publish.is_published_since(FEED, ledger.now())
    assert not publish.is_published_since("platform_orders", before)


def test_accept_publishes_what_failed_permanently_after_its_row_rules(partner, monkeypatch):
    partner.hands_over(FEED, DAY, rows(FEED, 3))
    problem = Problem("gate.expectation", "a rule that cannot be asked")
    with monkeypatch.context() as patch:
        patch.setattr(gate, "_batch_rules", lambda *_: (_ for _ in ()).throw(PermanentFailure(problem)))
        partner.ingest(FEED)
    held = partner.sampan.batch(FEED)
    assert (held["state"], held["problem"]["rule"], held["rows_held"]) == ("held", "gate.expectation", 3)
    assert gate.accept(FEED, DAY, "looked at by hand", "an engineer") == 1
    assert publish.run(FEED)["rows"] == 3
    adds_up(partner.sampan)


@pytest.mark.parametrize(
    "statement",
    [
        f"create temporary table wide ({', '.join(f'c{number} int' for number in range(1601))})",
        f"select concat({', '.join('1' for _ in range(101))})",
        "create temporary table long (a text primary key);"
        " insert into long select string_agg(md5(i::text), '') from generate_series(1, 2000) as i",
        "do $$ begin raise exception 'temporary files' using errcode = '53400'; end $$",
        "do $$ begin raise exception 'depth' using errcode = '54001'; end $$",
        "select chr(0)",
        "select '1'::int / (select 0)",
    ],
    ids=[
        "columns of a table",
        "arguments of a function",
        "size of an index entry",
        "temporary files",
        "depth of a statement",
        "a character",
        "a value",
    ],
)
def test_a_limit_of_the_server_is_no_transient_failure(statement, partner, monkeypatch):
    """Kind of fault: a failure that each retry repeats counts as one that passes; what waits behind it never loads."""
    first, second = rows(FEED, 3), rows(FEED, 3, seed=1)
    partner.hands_over(FEED, DAY, first)
    partner.hands_over(FEED, DAY, second, name="second")
    create = load._create_intake

    def over_the_limit(connection, contract, batch, first_line):
        if batch.batch_id == 1:
            connection.execute(statement)
        create(connection, contract, batch, first_line)

    monkeypatch.setattr(load, "_create_intake", over_the_limit)
    assert partner.ingest(FEED)["state"] == "published"
    assert partner.sampan.rows("select state, problem ->> 'rule' from ops.batch order by batch_id") == [
        ("held", "batch.unprocessable"),
        ("published", None),
    ]


# Appendix A of PostgreSQL's manual: whether a retry may help, a class or a code for each kind.
STATES = {
    "08000": True, "08006": True, "08P01": True, "25006": True, "25P03": True, "40001": True, "40P01": True, "53000": True,
    "53100": True, "53200": True, "53300": True, "55006": True, "55P03": True, "57014": True, "57P01": True, "57P02": True,
    "57P03": True, "57P05": True, "58000": True, "58030": True, "72000": True,
    "0A000": False, "21000": False, "22001": False, "22P05": False, "23505": False, "25001": False, "28000": False,
    "28P01": False, "2BP01": False, "3D000": False, "3F000": False, "40002": False, "42P01": False, "42501": False,
    "53400": False, "54000": False, "54001": False, "54011": False, "54023": False, "55000": False, "55P02": False,
    "57P04": False, "58P01": False, "58P02": False, "F0000": False, "HV000": False, "P0001": False, "XX000": False,
    "XX001": False,
}  # fmt: skip


@pytest.mark.parametrize(("state", "is_transient"), STATES.items())
def test_a_problem_of_the_database_is_transient_by_its_sqlstate(state, is_transient, sampan):
    statement = f"do $$ begin raise exception 'synthetic' using errcode = '{state}'; end $$"
    failure = TransientFailure if is_transient else psycopg.Error
    with pytest.raises(failure) as raised, connect() as connection:
        connection.execute(statement)
    cause = raised.value.__cause__ if is_transient else raised.value
    assert cause.sqlstate == state


@pytest.mark.parametrize("state", ["0A000", "42P01", "58P01", "P0001", "XX000"])
def test_the_next_batch_is_processed_when_the_database_refuses_one_for_no_fault_of_its_content(
    state, partner, monkeypatch
):
    """Kind of fault: one batch keeps all behind it waiting, until someone looks."""
    partner.hands_over(FEED, DAY, rows(FEED, 3))
    partner.hands_over(FEED, DAY, rows(FEED, 3, seed=1), name="second")
    create = load._create_intake

    def refused(connection, contract, batch, first_line):
        if batch.batch_id == 1:
            connection.execute(f"do $$ begin raise exception 'synthetic' using errcode = '{state}'; end $$")
        create(connection, contract, batch, first_line)

    with monkeypatch.context() as patch:
        patch.setattr(load, "_create_intake", refused)
        land.run(FEED)
        with pytest.raises(psycopg.Error) as raised:
            load.run(FEED)
        assert raised.value.sqlstate == state
    assert partner.sampan.rows("select state from ops.batch order by batch_id") == [("landed",), ("loaded",)]
    load.run(FEED)
    assert partner.sampan.rows("select state from ops.batch order by batch_id") == [("loaded",), ("loaded",)]


def test_a_step_fails_transiently_and_leaves_the_batch_when_the_object_store_is_away(partner, monkeypatch):
    partner.hands_over(FEED, DAY, rows(FEED, 3))
    away = {"SAMPAN_S3_ENDPOINT": "http://127.0.0.1:9"}
    for step, state in ((land, None), (load, "landed"), (gate, "loaded"), (publish, "gated")):
        with monkeypatch.context() as patch:
            for key, value in away.items():
                patch.setenv(key, value)
            settings.cache_clear()
            if step in (land, load):
                with pytest.raises(TransientFailure, match="object store"):
                    step.run(FEED)
        settings.cache_clear()
        if state:
            assert partner.sampan.batch(FEED)["state"] == state
        step.run(FEED)
    assert partner.sampan.batch(FEED)["rows_published"] == 3


def test_a_step_fails_transiently_when_the_warehouse_is_away(sampan, monkeypatch):
    monkeypatch.setenv("SAMPAN_WAREHOUSE_DSN", "postgresql://someone@127.0.0.1:9/nothing")
    settings.cache_clear()
    for step in (fetch, *STEPS):
        with pytest.raises(TransientFailure, match=r"warehouse|connection"):
            step.run(FEED)


def test_load_holds_nothing_when_it_is_the_settings_that_are_wrong(partner, monkeypatch):
    partner.hands_over(FEED, DAY, rows(FEED, 3))
    land.run(FEED)
    with monkeypatch.context() as patch:
        patch.setenv("SAMPAN_PSEUDONYM_KEY", "00")
        settings.cache_clear()
        with pytest.raises(PermanentFailure, match=r"settings\.pseudonym_key"):
            load.run(FEED)
    settings.cache_clear()
    assert load.run(FEED) == {"batches": 1, "held": 0}


def test_load_fails_transiently_when_what_was_landed_has_changed(partner):
    partner.hands_over(FEED, DAY, rows(FEED, 3))
    land.run(FEED)
    bucket, key = object_store.parse_s3_uri(partner.sampan.batch(FEED)["landing_uri"])
    partner.sampan.s3.put_object(Bucket=bucket, Key=key, Body=encode(get_contract(FEED), rows(FEED, 3, seed=9)))
    with pytest.raises(TransientFailure, match="does not match its SHA-256"):
        load.run(FEED)
    assert partner.sampan.batch(FEED)["state"] == "landed"
    assert partner.raw(FEED) == []


def test_publish_fails_transiently_when_a_reader_is_in_the_way(partner, monkeypatch):
    waiting(partner, "gated")
    original = ledger.transaction

    def impatient(connection):
        manager = original(connection)

        class Impatient:
            def __enter__(self):
                manager.__enter__()
                connection.execute("set local lock_timeout to '200ms'")

            def __exit__(self, *error):
                return manager.__exit__(*error)

        return Impatient()

    monkeypatch.setattr(ledger, "transaction", impatient)
    with psycopg.connect(settings().dsn("loader")) as reader:
        reader.execute(f"lock table raw.{FEED} in access exclusive mode")
        with pytest.raises(TransientFailure, match="lock timeout"):
            publish.run(FEED)
    assert publish.run(FEED)["rows"] == 3


def test_publish_does_not_wait_when_a_reader_only_reads(partner):
    waiting(partner, "gated")
    with psycopg.connect(settings().dsn("builder")) as reader:
        reader.execute(f"select * from raw.{FEED}").fetchall()
        assert publish.run(FEED)["rows"] == 3


def test_each_batch_of_raw_knows_its_file_and_line_when_it_is_published(partner):
    for seed in (1, 2):
        partner.hands_over(FEED, DAY, rows(FEED, 5, seed=seed), name=f"part{seed}")
    partner.ingest(FEED)
    found = partner.sampan.rows(
        f"select source_uri, array_agg(_line order by _line) from raw.{FEED} join ops.batch b on b.batch_id = _batch_id"
        " group by 1 order by 1"
    )
    assert [(uri.rsplit("/", 1)[-1], lines) for uri, lines in found] == [
        ("part1.csv.gz", [2, 3, 4, 5, 6]),
        ("part2.csv.gz", [2, 3, 4, 5, 6]),
    ]
