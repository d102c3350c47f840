"""Connections that are cut, slow, deaf or refused between the platform and PostgreSQL or S3: a step ends in time, with a
transient failure, and the next one finishes the work."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from itertools import product
from random import Random
from types import SimpleNamespace

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sampan.contracts.registry import get_contract
from sampan.database import connect
from sampan.errors import TransientFailure
from sampan.ingest import fetch, gate, land, load, publish
from sampan.settings import settings

from tests.factory import Partner, Row, encode, feeds, rows
from tests.faults.invariants import failure_of, holds_at_any_moment, holds_at_the_end, is_exactly
from tests.faults.proxy import Proxy, refusal
from tests.faults.test_instants import delivers, ingest, seed

FEED = "customs_declarations"
CONTRACT = get_contract(FEED)
DAY = date(2022, 3, 7)
DAYS = [DAY, DAY + timedelta(days=1)]
RECORDS = 400
# Formats that a child process reads.
WHOLE_FILES = [next(iter(feeds(lambda c, kind=kind: c.source.format == kind))) for kind in ("parquet", "xlsx")]


@contextmanager
def through(patch: pytest.MonkeyPatch, warehouse: Proxy | None = None, store: Proxy | None = None) -> Iterator[None]:
    """Reach the servers through proxies inside the block, with new connections."""
    with patch.context() as inner:
        if warehouse:
            dsn = make_conninfo(settings().get("SAMPAN_WAREHOUSE_DSN"), port=warehouse.port, sslmode="disable")
            inner.setenv("SAMPAN_WAREHOUSE_DSN", dsn)
        if store:
            inner.setenv("SAMPAN_S3_ENDPOINT", f"http://127.0.0.1:{store.port}")
        settings.cache_clear()
        yield
    settings.cache_clear()


def ports(partner: Partner) -> tuple[int, int]:
    """Ports of PostgreSQL and of S3."""
    environment = partner.sampan.environment
    warehouse = conninfo_to_dict(environment["SAMPAN_WAREHOUSE_DSN"])["port"]
    return int(warehouse or 0), int(environment["SAMPAN_S3_ENDPOINT"].rpartition(":")[2])


def heals(partner: Partner, sound: list[Row], days: list[date]) -> None:
    """Run every step until nothing is left to do, and judge."""
    ingest()
    is_exactly(partner.sampan, CONTRACT, sound, days)
    holds_at_the_end(partner.sampan)


def cut(partner: Partner, patch: pytest.MonkeyPatch, to: str, count: int) -> None:
    """Cut the connections to a server when some bytes have passed, anywhere in a run of the ingest."""
    chance, failures, usual = Random(seed()), 0, 0
    target = ports(partner)[to == "store"]
    for number in range(count + 1):
        days = [DAY + timedelta(days=2 * number + n) for n in range(2)]
        sound = delivers(partner, days, RECORDS)
        with Proxy(target, budget=chance.randrange(usual) if usual else None) as proxy:
            with through(patch, **{to: proxy}):
                failures += failure_of(ingest) != ""
            usual = usual or proxy.passed
        holds_at_any_moment(partner.sampan)
        heals(partner, sound, days)
    assert failures > count / 2


@pytest.mark.parametrize("to", ["warehouse", "store"])
def test_every_record_counts_once_when_connections_are_cut_a_few_times(to, partner, monkeypatch):
    cut(partner, monkeypatch, to, 4)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["warehouse", "store"])
def test_every_record_counts_once_when_connections_are_cut_many_times(to, partner, monkeypatch):
    cut(partner, monkeypatch, to, 40)


def test_a_slow_connection_changes_nothing_but_the_time(partner, monkeypatch):
    sound = delivers(partner, DAYS, 100)
    of_warehouse, of_store = ports(partner)
    with Proxy(of_warehouse, delay=0.001) as warehouse, Proxy(of_store, delay=0.001) as store:
        with through(monkeypatch, warehouse, store):
            ingest()
        assert min(warehouse.passed, store.passed) > 10_000
    is_exactly(partner.sampan, CONTRACT, sound, DAYS)
    holds_at_the_end(partner.sampan)


def test_a_warehouse_that_accepts_a_connection_and_never_answers_fails_transiently_in_time(partner, monkeypatch):
    """Kind of fault: a server behind a firewall that drops what it is told is waited for without end."""
    with Proxy(ports(partner)[0], is_deaf=True) as proxy, through(monkeypatch, proxy):
        dsn = make_conninfo(settings().get("SAMPAN_WAREHOUSE_DSN"), connect_timeout=2)
        monkeypatch.setenv("SAMPAN_WAREHOUSE_DSN", dsn)
        settings.cache_clear()
        began = time.monotonic()
        with pytest.raises(TransientFailure, match="warehouse"):
            fetch.run(FEED)
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("role", ["loader", "builder", "admin"])
def test_both_ends_of_a_session_notice_within_minutes_that_the_other_one_is_gone(role, sampan):
    """Kind of fault: half-open connections. The client waits for hours; the server keeps the transaction and its locks."""
    with connect(role) as connection:
        with socket.socket(fileno=socket.dup(connection.fileno())) as end:
            level = socket.IPPROTO_TCP
            assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            quiet = end.getsockopt(level, socket.TCP_KEEPIDLE)
            probes = end.getsockopt(level, socket.TCP_KEEPINTVL) * end.getsockopt(level, socket.TCP_KEEPCNT)
            assert quiet + probes <= 180
            assert 0 < end.getsockopt(level, socket.TCP_USER_TIMEOUT) <= 300_000
        of_server = "select name, setting::int from pg_settings where name = any(%s)"
        names = ["tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout"]
        found = dict(connection.execute(of_server, [[*names, "client_connection_check_interval"]]).fetchall())
        assert found["tcp_keepalives_idle"] + found["tcp_keepalives_interval"] * found["tcp_keepalives_count"] <= 180
        assert 0 < found["tcp_user_timeout"] <= 300_000
        # A statement that no one waits for any more holds its locks no longer.
        assert 0 < found["client_connection_check_interval"] <= 30_000


def test_the_work_of_a_session_that_went_deaf_is_done_once_by_the_next_one(partner, monkeypatch):
    """A worker's connection carries nothing in the middle of its COPY; it is cut later, and its server side with it."""
    sound = delivers(partner, DAYS, RECORDS)
    fetch.run(FEED)
    land.run(FEED)
    with Proxy(ports(partner)[0]) as proxy, through(monkeypatch, proxy):
        original, deaf = load._copy, []

        def copy(*arguments, **named):
            if not deaf:
                deaf.append(True)
                proxy.is_deaf = True
                # What a firewall does after some time, or the kernel when no one acknowledges.
                threading.Timer(1, proxy.cut).start()
            return original(*arguments, **named)

        monkeypatch.setattr(load, "_copy", copy)
        with pytest.raises(TransientFailure):
            load.run(FEED)
    holds_at_any_moment(partner.sampan)
    heals(partner, sound, DAYS)


# --- S3 that answers, and says no -------------------------------------------------------------------------------------

OPERATIONS = {
    "list": lambda line: line.startswith("GET") and "list-type=2" in line,
    "get": lambda line: line.startswith("GET") and "list-type=2" not in line,
    "head": lambda line: line.startswith("HEAD"),
    "put": lambda line: line.startswith("PUT"),
}
QUICK = {("list", 503), ("put", 500)}


@pytest.mark.parametrize(
    ("operation", "status"),
    [
        pytest.param(operation, status, marks=[] if (operation, status) in QUICK else pytest.mark.slow)
        for operation, status in product(OPERATIONS, (500, 502, 503, 504, 429))
    ],
)
def test_a_step_fails_transiently_when_s3_refuses_for_long_and_works_when_it_refuses_for_a_moment(
    operation, status, partner, monkeypatch
):
    sound, refused = delivers(partner, DAYS, 100), []
    patience = {"is": 1}
    # Five attempts of a request, without the seconds between them.
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda seconds: None, time=time.time))

    def answer(line: str) -> bytes | None:
        if OPERATIONS[operation](line) and len(refused) < patience["is"]:
            refused.append(line)
            return refusal(status, "SlowDown" if status == 503 else "InternalError")
        return None

    with Proxy(ports(partner)[1], answer=answer) as store, through(monkeypatch, store=store):
        fetch.run(FEED)
        land.run(FEED)
        assert len(refused) == 1
    assert partner.sampan.rows("select state from ops.batch") == [("landed",)] * 2
    # The next date, while it refuses without end.
    day = DAYS[1] + timedelta(days=1)
    partner.sampan.deliver(FEED, day, "part.csv.gz", encode(CONTRACT, rows(FEED, 30, day)))
    patience["is"] = 1_000
    with Proxy(ports(partner)[1], answer=answer) as store, through(monkeypatch, store=store):
        # That is after five attempts of each request.
        assert "object store" in failure_of(ingest)
    assert partner.sampan.rows("select problem from ops.delivery where problem is not null") == []
    assert partner.sampan.rows("select problem from ops.batch where state = 'held'") == []
    ingest()
    is_exactly(partner.sampan, CONTRACT, [*sound, *rows(FEED, 30, day)], [*DAYS, day])
    holds_at_the_end(partner.sampan)


def test_a_listing_that_runs_ahead_of_its_objects_loses_nothing(partner, monkeypatch):
    """The store lists what it cannot give yet, as a replica does that lags behind."""
    sound, missing = delivers(partner, DAYS, 100), [True]

    def answer(line: str) -> bytes | None:
        is_object = line.startswith(("GET", "HEAD")) and "/part.csv.gz" in line
        return refusal(404, "NoSuchKey") if missing[0] and is_object else None

    with Proxy(ports(partner)[1], answer=answer) as store, through(monkeypatch, store=store):
        fetch.run(FEED)
        assert land.run(FEED) == {"landed": 0, "repeated": 0, "refused": 2}
        rules = "select distinct problem ->> 'rule' from ops.delivery"
        assert partner.sampan.rows(rules) == [("delivery.gone",)]
        missing[0] = False
        heals(partner, sound, DAYS)
    assert partner.sampan.rows("select * from ops.open_problem") == []


@pytest.mark.parametrize("feed", [FEED, *WHOLE_FILES])
def test_a_landing_bucket_that_lost_an_object_stops_that_batch_alone_and_says_which(feed, partner):
    """Kind of fault: what the store lost or changed keeps everything behind it waiting, or is laid at the partner's door."""
    sampan, contract = partner.sampan, get_contract(feed)
    given = {day: rows(feed, 30, day) for day in DAYS}
    bodies = {day: encode(contract, given[day]) for day in DAYS}
    for day in DAYS:
        partner.puts(feed, day, f"part.{contract.source.extension}", bodies[day])
    land.run(feed)
    first, uri = sampan.rows("select batch_id, landing_uri from ops.batch order by business_date limit 1")[0]
    bucket, key = uri.removeprefix("s3://").split("/", 1)
    states = "select state from ops.batch order by business_date"
    for spoilt in (b"", bodies[DAYS[0]][:50], encode(contract, rows(feed, 29, DAYS[0], seed=9)), None):
        if spoilt is None:
            sampan.s3.delete_object(Bucket=bucket, Key=key)
        else:
            sampan.s3.put_object(Bucket=bucket, Key=key, Body=spoilt)
        with pytest.raises(TransientFailure, match=f"batch {first}"):
            load.run(feed)
        assert sampan.rows(states)[0] == ("landed",), spoilt
    gate.run(feed)
    publish.run(feed)
    assert sampan.rows(states) == [("landed",), ("published",)]
    # The same content again puts back what was lost.
    partner.puts(feed, DAYS[0], f"again.{contract.source.extension}", bodies[DAYS[0]])
    assert land.run(feed)["repeated"] == 1
    partner.ingest(feed)
    is_exactly(sampan, contract, [row for day in DAYS for row in given[day]], DAYS)
    holds_at_the_end(sampan)


def test_no_session_is_left_behind_when_the_connection_of_a_worker_was_cut(partner, monkeypatch):
    delivers(partner, DAYS, RECORDS)
    with Proxy(ports(partner)[0], budget=60_000) as proxy, through(monkeypatch, proxy):
        assert failure_of(ingest)
    query = """
        select count(*) from pg_stat_activity
        where application_name = 'sampan_loader' and datname = current_database() and pid <> pg_backend_pid()
    """
    deadline = time.monotonic() + 15
    with psycopg.connect(settings().dsn("admin"), autocommit=True) as admin:
        while admin.execute(query).fetchone() != (0,):
            assert time.monotonic() < deadline
            time.sleep(0.2)
