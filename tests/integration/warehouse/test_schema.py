"""`sampan init`: in nobody's way while nothing has changed, in a bounded time when something has, and on older shapes too."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from sampan.errors import TransientFailure
from sampan.settings import settings
from sampan.warehouse import schema as warehouse

from tests.conftest import Sampan

VIEW = "ops.consent_now"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warehouse, "LOCK_TIMEOUT", "500ms")
    monkeypatch.setattr(warehouse, "TRIES", 2)
    monkeypatch.setattr(warehouse, "PAUSE_SECONDS", 0.5)


def changed(sampan: Sampan) -> None:
    sampan.rows("update ops.applied set digest = 'of an earlier version' returning 1")


def test_init_is_done_at_once_when_nothing_changed_and_a_reader_is_idle_in_its_transaction(sampan, impatient):
    with psycopg.connect(settings().dsn("loader")) as reader:
        reader.execute(f"select count(*) from {VIEW}")
        warehouse.init()
        with pytest.raises(TransientFailure):
            warehouse.init(again=True)


def test_init_gives_up_and_says_who_is_in_the_way_when_a_changed_view_is_read(sampan, impatient):
    changed(sampan)
    with (
        psycopg.connect(settings().dsn("loader"), application_name="a bank at lunch") as idle,
        ThreadPoolExecutor() as pool,
    ):
        idle.execute(f"select count(*) from {VIEW}")
        begun, slowest = time.monotonic(), 0.0
        running = pool.submit(warehouse.init)
        while not running.done():
            asked = time.monotonic()
            sampan.rows(f"select count(*) from {VIEW}")
            slowest = max(slowest, time.monotonic() - asked)
        with pytest.raises(
            TransientFailure, match=f"{idle.info.backend_pid} of sampan_loader \\(a bank at lunch\\).*{VIEW}"
        ):
            running.result()
        assert time.monotonic() - begun < 20
        assert slowest < 5
    assert sampan.one("select digest from ops.applied") == "of an earlier version"
    warehouse.init()
    assert sampan.one("select digest from ops.applied") != "of an earlier version"


def test_init_gives_roles_their_passwords_when_only_these_changed(sampan, monkeypatch, secrets_of_session):
    monkeypatch.setenv("SAMPAN_BI_PASSWORD", "another")
    settings.cache_clear()
    try:
        warehouse.init()
        assert sampan.one("select current_user", role="bi") == "bi_reader"
    finally:
        monkeypatch.setenv("SAMPAN_BI_PASSWORD", secrets_of_session["SAMPAN_BI_PASSWORD"])
        settings.cache_clear()
        warehouse.init()
    assert sampan.one("select current_user", role="bi") == "bi_reader"


def test_init_touches_everything_when_a_script_changed(sampan, tmp_path, monkeypatch):
    for script in warehouse.SCRIPTS.glob("*.sql"):
        (tmp_path / script.name).write_text(script.read_text())
    monkeypatch.setattr(warehouse, "SCRIPTS", Path(tmp_path))
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as connection:
        connection.execute("drop view ops.feed_now")
    warehouse.init()
    assert sampan.one("select to_regclass('ops.feed_now')") is None
    with (tmp_path / "90_freshness.sql").open("a") as script:
        script.write("\n-- changed\n")
    warehouse.init()
    assert sampan.one("select to_regclass('ops.feed_now')") is not None


OLDER = {
    "replays": "alter table ops.batch drop column replays cascade",
    "row_rules_at": "alter table ops.batch drop column row_rules_at cascade",
    "refused_at": "alter table ops.delivery drop column refused_at cascade",
    "deleted_batches": "alter table ops.as_known drop column deleted_batches cascade",
    "build_no": "drop view ops.suppression_known; alter table ops.suppression drop column build_no, add primary key"
    " (table_name, series, period, row_key, column_key);"
    " insert into ops.suppression values ('t', 's', '2026-07-01', 'r', 'c', 'primary')",
    "the key": "alter table ops.suppression drop constraint suppression_pkey, add primary key"
    " (table_name, series, period, row_key, column_key);"
    " insert into ops.suppression values (0, 't', 's', '2026-07-01', 'r', 'c', 'primary')",
}
SHAPE = (
    "select attrelid::regclass::text, attname, format_type(atttypid, atttypmod) from pg_attribute"
    " where attrelid = any('{ops.batch,ops.delivery,ops.as_known,ops.suppression}'::regclass[]) and attnum > 0"
    " and not attisdropped union all select conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
    " from pg_constraint where contype in ('p', 'c', 'f') and connamespace = 'ops'::regnamespace order by 1, 2"
)


@pytest.mark.parametrize("older", list(OLDER))
def test_init_brings_the_warehouse_to_the_same_shape_when_it_is_an_older_one(older, sampan):
    now = sampan.rows(SHAPE)
    assert len(now) > 40
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as connection:
        connection.execute(OLDER[older])
    assert sampan.rows(SHAPE) != now
    for _ in range(2):
        warehouse.init(again=True)
        assert sampan.rows(SHAPE) == now
