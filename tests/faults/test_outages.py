"""When the database fails during a step, the step fails transiently and its next run finishes the work."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sampan import failpoints
from sampan.contracts.registry import get_contract
from sampan.errors import TransientFailure
from sampan.ingest import gate, land, load, publish
from sampan.quality import expectations
from sampan.reading.block import Block
from sampan.reading.reader import Reader
from sampan.settings import settings

from infra.local.postgres import EmbeddedPostgres
from tests.conftest import template_on
from tests.factory import DAY, adds_up, rows, stored
from tests.faults.test_kills import POINTS, STEPS, Truth, run_before

FEED = "customs_declarations"


@pytest.fixture(scope="module")
def crashing() -> Iterator[EmbeddedPostgres]:
    """A server for this module alone, which its tests may crash."""
    with (
        tempfile.TemporaryDirectory(prefix="sampan-postgres-", ignore_cleanup_errors=True) as folder,
        EmbeddedPostgres(Path(folder) / "data", tuning={"autovacuum": "off"}) as postgres,
    ):
        yield postgres


@pytest.fixture(scope="module")
def server(crashing: EmbeddedPostgres) -> str:
    return crashing.dsn()


@pytest.fixture(scope="module")
def template(server: str, secrets_of_session: dict[str, str]) -> Iterator[str]:
    with template_on(server, secrets_of_session) as name:
        yield name


def crash(postgres: EmbeddedPostgres) -> None:
    """Stop the server like a power cut, from the point of view of its sessions, and start it again."""
    os.kill(postgres.postmaster() or 0, signal.SIGQUIT)
    postgres.stop()
    postgres.start()


@pytest.mark.parametrize("point", POINTS)
def test_every_record_counts_once_when_the_server_crashes(point, crashing, partner, monkeypatch):
    truth, crashes = Truth(partner), []

    def hit(name: str) -> None:
        if name == point and not crashes:
            crashes.append(name)
            crash(crashing)

    step = point.split(".")[0]
    run_before(step)
    monkeypatch.setattr(failpoints, "hit", hit)
    with pytest.raises(TransientFailure):
        STEPS[step].run(FEED)
    assert crashes == [point]
    for module in STEPS.values():
        module.run(FEED)
    truth.check(partner)


def test_load_fails_transiently_when_its_session_ends_during_copy(partner, monkeypatch):
    given = rows(FEED, 50)
    partner.hands_over(FEED, DAY, given)
    land.run(FEED)
    original = Reader.blocks

    def cut(reader: Reader) -> Iterator[Block]:
        yield from original(reader)
        with psycopg.connect(settings().dsn("admin"), autocommit=True) as connection:
            ended = connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and application_name = 'sampan_loader'"
            ).fetchall()
        assert ended == [(True,)]
        yield Block(b"x" * 10_000_000)

    with monkeypatch.context() as patch:
        patch.setattr(Reader, "blocks", cut)
        with pytest.raises(TransientFailure):
            load.run(FEED)
    assert partner.sampan.batch(FEED)["state"] == "landed"
    assert partner.ingest(FEED)["rows_published"] == 50
    assert partner.raw(FEED) == stored(get_contract(FEED), given)
    adds_up(partner.sampan)


def test_gate_fails_transiently_and_holds_nothing_when_its_check_is_interrupted(partner):
    partner.hands_over(FEED, DAY, rows(FEED, 10))
    land.run(FEED)
    load.run(FEED)
    table = partner.sampan.batch(FEED)["batch_id"]
    gate_started, failures = threading.Event(), []

    def cut() -> None:
        blocker_dsn, admin_dsn = settings().dsn("loader"), settings().dsn("admin")
        with psycopg.connect(blocker_dsn) as blocker, psycopg.connect(admin_dsn, autocommit=True) as admin:
            gate_started.wait(60)
            blocker.execute(f"lock table intake.{FEED}__b{table} in access exclusive mode")
            gate_locked.set()
            for _ in range(600):
                query = (
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
                    " and application_name = 'sampan-gate' and wait_event_type = 'Lock'"
                )
                if admin.execute(query).fetchall():
                    return
                time.sleep(0.05)
            failures.append("the gate's check never waited")

    gate_locked = threading.Event()
    original = expectations.validate

    def validate(*arguments, **named):
        gate_started.set()
        gate_locked.wait(60)
        return original(*arguments, **named)

    thread = threading.Thread(target=cut)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expectations, "validate", validate)
        with pytest.raises(TransientFailure):
            gate.run(FEED)
    thread.join()
    assert failures == []
    assert partner.sampan.batch(FEED)["state"] == "loaded"
    gate.run(FEED)
    assert publish.run(FEED)["rows"] == 10
