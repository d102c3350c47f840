"""`sampan init` blocks no reader while nothing has changed, waits a bounded time otherwise, and migrates older schemas."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from sampan import calendar
from sampan.contracts.registry import all_contracts
from sampan.errors import PermanentFailure, TransientFailure
from sampan.ingest import gate, land, load, publish, quarantine
from sampan.settings import settings
from sampan.warehouse import schema as warehouse

from tests.conftest import ROOT, Sampan, drop_database
from tests.factory import DAY, rows

VIEW = "ops.consent_now"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warehouse, "LOCK_TIMEOUT", "500ms")
    monkeypatch.setattr(warehouse, "TRIES", 2)
    monkeypatch.setattr(warehouse, "PAUSE_SECONDS", 0.5)


def changed(sampan: Sampan) -> None:
    sampan.rows("update ops.schema_version set digest = 'of an earlier version' returning 1")


def test_init_refuses_contracts_with_errors_and_changes_nothing(sampan, tmp_path):
    """Kind of fault: SQL of a contract that `contracts check` refuses runs as the loader, because `init` did not ask."""
    home, rule = tmp_path / "home", "row: movement_date <= business_date + 14"
    for folder in ("expectations", "infra/postgres"):
        shutil.copytree(ROOT / folder, home / folder)
    file = home / "expectations" / "feeds" / "customs_declarations.yaml"
    assert rule in file.read_text()
    file.write_text(file.read_text().replace(rule, "row: repeat(goods_description, 1000000000) <> ''"))
    before = sampan.rows("select digest, applied_at from ops.schema_version")
    done = sampan.cli("init", SAMPAN_HOME=str(home))
    assert done.returncode == 1
    assert f"{file}:" in done.stderr
    assert "REPEAT" in done.stderr
    assert "[contract.invalid]" in done.stderr
    assert sampan.rows("select digest, applied_at from ops.schema_version") == before


def test_init_names_what_does_not_fit_when_the_server_is_too_old_or_the_database_has_another_encoding(
    sampan, server, monkeypatch
):
    """Kind of fault: a stack trace from the first statement that the other server does not know."""
    monkeypatch.setattr(warehouse, "OLDEST_SERVER", 99)
    with pytest.raises(
        PermanentFailure, match=r"this server is PostgreSQL \d+; Sampan needs 99 or later; .*warehouse\.server"
    ):
        warehouse.apply_schema()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("create database in_ascii encoding 'SQL_ASCII' locale 'C' template template0")
    try:
        refused = sampan.cli("init", SAMPAN_WAREHOUSE_DSN=make_conninfo(server, dbname="in_ascii"))
        assert (refused.returncode, "in_ascii has the encoding SQL_ASCII; Sampan needs UTF8" in refused.stderr) == (
            1,
            True,
        )
    finally:
        drop_database(server, "in_ascii")


def test_apply_schema_waits_for_no_reader_when_nothing_changed(sampan, impatient):
    with psycopg.connect(settings().dsn("loader")) as reader:
        reader.execute(f"select count(*) from {VIEW}")
        warehouse.apply_schema()
        with pytest.raises(TransientFailure):
            warehouse.apply_schema(force=True)


def test_apply_schema_gives_up_and_names_the_session_when_a_changed_view_is_locked(sampan, impatient):
    changed(sampan)
    with (
        psycopg.connect(settings().dsn("loader"), application_name="a bank at lunch") as idle,
        ThreadPoolExecutor() as pool,
    ):
        idle.execute(f"select count(*) from {VIEW}")
        begun, slowest = time.monotonic(), 0.0
        running = pool.submit(warehouse.apply_schema)
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
    assert sampan.one("select digest from ops.schema_version") == "of an earlier version"
    warehouse.apply_schema()
    newest = "select digest from ops.schema_version order by applied_at desc limit 1"
    assert sampan.one(newest) != "of an earlier version"


def test_apply_schema_sets_passwords_when_only_they_changed(sampan, monkeypatch, secrets_of_session):
    monkeypatch.setenv("SAMPAN_BI_PASSWORD", "another")
    settings.cache_clear()
    try:
        warehouse.apply_schema()
        assert sampan.one("select current_user", role="bi") == "bi_reader"
    finally:
        monkeypatch.setenv("SAMPAN_BI_PASSWORD", secrets_of_session["SAMPAN_BI_PASSWORD"])
        settings.cache_clear()
        warehouse.apply_schema()
    assert sampan.one("select current_user", role="bi") == "bi_reader"


@pytest.fixture
def scripts(tmp_path, monkeypatch) -> Path:
    """A copy of the scripts, which a test may change."""
    shutil.copytree(warehouse.SCRIPTS, tmp_path / "postgres")
    monkeypatch.setattr(warehouse, "SCRIPTS", tmp_path / "postgres")
    return tmp_path / "postgres"


def test_apply_schema_touches_nothing_when_a_comment_changed_and_everything_when_a_statement_changed(sampan, scripts):
    script = scripts / "after_feeds" / "90_freshness.loader.sql"
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as connection:
        connection.execute("drop view ops.feed_now")
    text = script.read_text()
    script.write_text(text.replace("\n--", "\n-- It's reworded:").replace("\n    ", "\n        ") + "\n-- changed\n")
    assert script.read_text().count("It's reworded") > 1
    warehouse.apply_schema()
    assert sampan.one("select to_regclass('ops.feed_now')") is None
    script.write_text(text.replace("'General holidays", "'The general holidays"))
    warehouse.apply_schema()
    assert sampan.one("select to_regclass('ops.feed_now')") is not None


@pytest.mark.parametrize(
    ("old", "new"),
    [("create or replace view", "create view"), ("'late_here'", "'late-here'"), ("-- A slot", "; select '-- A slot'")],
)
def test_schema_digest_changes_when_a_statement_means_something_else(old, new, scripts):
    before = warehouse.schema_digest()
    script = scripts / "after_feeds" / "90_freshness.loader.sql"
    script.write_text(script.read_text().replace(old, new, 1))
    assert warehouse.schema_digest() != before


def test_schema_digest_changes_with_a_contract_and_not_with_the_day(monkeypatch):
    before, contracts = warehouse.schema_digest(), dict(all_contracts())
    monkeypatch.setattr(calendar, "today", lambda: date(2030, 1, 1))
    assert warehouse.schema_digest() == before
    feed, contract = next(iter(contracts.items()))
    contracts[feed] = replace(contract, description="Another description.")
    monkeypatch.setattr(warehouse, "all_contracts", lambda: contracts)
    assert warehouse.schema_digest() != before


OLDER = {
    "replays": "alter table ops.batch drop column replays cascade",
    "row_rules_at": "alter table ops.batch drop column row_rules_at cascade",
    "refused_at": "alter table ops.delivery drop column refused_at cascade",
    "wait_until": "alter table ops.feed_poll drop column wait_until cascade",
    "deleted_batches": "alter table ops.as_known drop column deleted_batches cascade",
    "build_no": "drop view ops.suppression_known; alter table ops.suppression drop column build_no, add primary key"
    " (table_name, series, period, row_key, column_key);"
    " insert into ops.suppression values ('t', 's', '2026-07-01', 'r', 'c', 'primary')",
    "the old names": "alter table ops.feed_poll rename to look; alter table ops.look rename polled_at to looked_at;"
    " alter table ops.schema_version rename to applied; alter table ops.release_activation rename to release_switch;"
    " alter table ops.release_switch rename activation_no to switch_no;"
    " alter table ops.release_switch rename activated_at to switched_at;"
    " alter table ops.release_switch rename constraint release_activation_pkey to release_switch_pkey;"
    " alter table ops.release_switch rename constraint release_activation_kind_check to release_switch_kind_check;"
    " alter sequence ops.release_activation_activation_no_seq rename to release_switch_switch_no_seq;"
    " alter view ops.open_problem rename to waiting; alter table ops.batch rename proven_rules_sha256 to shape",
    "the drift": "alter table ops.drift drop constraint drift_kind_check, drop column data_type, drop column filled,"
    " add constraint drift_kind_check check (kind in ('renamed', 'added', 'ignored', 'missing'))",
    "the outcomes": "drop table ops.funding_outcome_month; alter table ops.funding_outcome drop constraint"
    " funding_outcome_pkey, add primary key (build_no, measure, programme), drop constraint funding_outcome_status_check,"
    " add constraint funding_outcome_status_check check (status in ('estimated', 'too_few')), drop column window_months,"
    " drop column existed_before_count, drop column placebo_funded_count, drop column applicants_count,"
    " drop column paid_hkd, drop column p_value, drop column p_value_adjusted, drop column applicants_effect,"
    " drop column applicants_effect_low, drop column applicants_effect_high",
    "the key": "alter table ops.suppression drop constraint suppression_pkey, add primary key"
    " (table_name, series, period, row_key, column_key);"
    " insert into ops.suppression values (0, 't', 's', '2026-07-01', 'r', 'c', 'primary')",
}
SHAPE = (
    "select attrelid::regclass::text, attname, format_type(atttypid, atttypmod) from pg_attribute"
    " where attrelid in (select oid from pg_class where relkind in ('r', 'v') and relnamespace = 'ops'::regnamespace)"
    " and attnum > 0"
    " and not attisdropped union all select conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
    " from pg_constraint where contype in ('p', 'c', 'f') and connamespace = 'ops'::regnamespace order by 1, 2"
)


@pytest.mark.parametrize("older", list(OLDER))
def test_apply_schema_gives_the_same_schema_when_the_warehouse_is_older(older, sampan):
    now = sampan.rows(SHAPE)
    assert len(now) > 40
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as connection:
        connection.execute(OLDER[older])
    assert sampan.rows(SHAPE) != now
    for _ in range(2):
        warehouse.apply_schema(force=True)
        assert sampan.rows(SHAPE) == now


def test_apply_schema_keeps_the_rows_of_renamed_tables_when_the_warehouse_is_older(sampan):
    sampan.rows("insert into ops.feed_poll values ('platform_orders', '2026-07-06 08:00+08', null) returning 1")
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as connection:
        connection.execute(OLDER["the old names"])
    warehouse.apply_schema()
    assert sampan.rows("select feed, polled_at::text from ops.feed_poll") == [
        ("platform_orders", "2026-07-06 08:00:00+08")
    ]
    assert sampan.one("select count(*) from ops.schema_version") == 2
    assert sampan.rows("select to_regclass('ops.look'), to_regclass('ops.applied'), to_regclass('ops.waiting')") == [
        (None, None, None)
    ]


def test_apply_schema_drops_what_was_stored_of_unknown_columns_when_the_warehouse_is_older(partner):
    """Kind of fault: values in clear that an earlier version stored, and that no later one would look for."""
    feed = "customs_declarations"
    for number in range(2):
        day = DAY + timedelta(days=number)
        delivered = [row | ({"hkhs_code": "1"} if n == 0 else {}) for n, row in enumerate(rows(feed, 40, day))]
        partner.hands_over(feed, day, delivered)
        partner.ingest(feed)
    third = DAY + timedelta(days=2)
    partner.hands_over(feed, third, rows(feed, 40, third))
    for step in (land, load):
        step.run(feed)
    before = partner.raw(feed)
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as connection:
        connection.execute(OLDER["the drift"])
        connection.execute(
            "insert into ops.drift (batch_id, kind, column_name, detail) values (1, 'added', 'x_phone', 'p')"
        )
        for table in (f"raw.{feed}", f"intake.{feed}__b3"):
            connection.execute(f"alter table {table} add column x_phone text")
            connection.execute(f"update {table} set x_phone = 'ZQ400001'")
        connection.execute(
            """update quarantine.record set fields = fields || '{"x_phone": "ZQ400001"}', record = 'a,ZQ400001'"""
            " where batch_id = 1"
        )
    (file,) = partner.sampan.rows(f"select pg_relation_filepath('raw.{feed}__b1')")[0]
    warehouse.apply_schema(force=True)
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as connection:
        left = connection.execute("select attrelid::regclass from pg_attribute where attname like 'x\\_%'").fetchall()
    assert left == []
    # The tables were written again: the pages of a dropped column would keep its values.
    assert partner.sampan.rows(f"select pg_relation_filepath('raw.{feed}__b1')")[0] != (file,)
    kept = partner.sampan.rows("select q::text from quarantine.record q") + partner.sampan.rows(
        "select kind, column_name from ops.drift"
    )
    assert "ZQ400001" not in str(kept)
    assert ("unknown", "phone") in kept
    assert partner.raw(feed) == before
    for step in (gate, publish):
        step.run(feed)
    assert len(partner.raw(feed)) == len(before) + 40
    assert quarantine.replay(feed)["rows"] == 2


def test_apply_schema_replaces_numbers_in_names_of_files_when_the_warehouse_is_older(partner):
    feed = "customs_declarations"
    partner.hands_over(feed, DAY, rows(feed, 3))
    partner.ingest(feed)
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as connection:
        connection.execute("update ops.batch set source_uri = replace(source_uri, 'delivery', 'of A123456(3)')")
    for _ in range(2):
        warehouse.apply_schema(force=True)
        assert partner.sampan.batch(feed)["source_uri"].endswith(f"/{DAY}/of [HKID].csv.gz")


def test_apply_schema_makes_the_index_again_when_a_contract_changed_its_key(sampan):
    """Kind of fault: rows that the contract tells apart collide in the index on its earlier key."""
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as connection:
        connection.execute("drop index raw.hkecic_claims_key")
        connection.execute("create unique index hkecic_claims_key on raw.hkecic_claims (claim_no, status, _batch_id)")
    warehouse.apply_schema(force=True)
    columns = (
        "select attname::text from pg_attribute where attrelid = 'raw.hkecic_claims_key'::regclass order by attnum"
    )
    # The status is one of a list of codes, which come last.
    assert sampan.rows(columns) == [("claim_no",), ("status_on",), ("status",), ("_batch_id",)]


def test_alerts_of_an_earlier_version_get_severity_and_cause_and_stay_as_they_are(sampan):
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as connection:
        connection.execute("drop function ops.raise_alert, ops.alert_severity")
        connection.execute("drop table ops.alert_message, ops.alert_silence")
        for column in ("severity", "cause", "sent_at", "ended_at", "acknowledged_at", "silenced_until"):
            connection.execute(f"alter table ops.alert drop column {column}")
        connection.execute("alter table ops.alert drop column acknowledged_by, drop column acknowledged_because")
        connection.execute(
            "insert into ops.alert (kind, feed, message) values ('held', 'quality_marks', 'a'), ('withdrawn', null, 'b')"
        )
    warehouse.apply_schema(force=True)
    query = "select kind, feed, message, severity, cause, sent_at from ops.alert order by alert_id"
    expected = [
        ("held", "quality_marks", "a", "critical", "held:quality_marks", None),
        ("withdrawn", None, "b", "info", "withdrawn", None),
    ]
    assert sampan.rows(query) == expected
    warehouse.apply_schema(force=True)
    assert sampan.rows(query) == expected
