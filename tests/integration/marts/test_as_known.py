"""Marts as known on an earlier date: what a release made then showed, beside what goes on since."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import psycopg
import pytest
from sampan.calendar import HONG_KONG
from sampan.errors import PermanentFailure
from sampan.ingest import freshness
from sampan.marts import as_known, build, release, steps
from sampan.settings import settings

from tests.conftest import Sampan
from tests.integration.published import publish


def _published(feed: str, day: str, rows: list[dict[str, Any]], at: str) -> None:
    batch = publish(feed, day, rows, received_at=at)
    with psycopg.connect(settings().dsn("loader")) as connection:
        connection.execute("update ops.batch set published_at = received_at where batch_id = %s", [batch])


def _released(at: str) -> int:
    """Make a release; how fresh its feeds are is judged as of a time."""
    freshness.set_clock(datetime.fromisoformat(f"{at}+08"))
    build.run()
    release.gate()
    return release.run()["release_no"]


def _marts(sampan: Sampan, schema: str) -> dict[str, list[str]]:
    """Every row of every mart of a schema that the reader may read, but for its release."""
    readable = (
        "select relname from pg_class where relnamespace = %s::regnamespace and relkind in ('r', 'v')"
        " and has_table_privilege('bi_reader', oid, 'select')"
    )
    return {
        mart: sorted(
            str(sorted(row.items()))
            for (row,) in sampan.rows(f"select to_jsonb(m) - 'release_no' from {schema}.{mart} m", role="bi")
        )
        for (mart,) in sampan.rows(readable, schema)
    }


# Declaration 1 is amended on the second day, declaration 2 comes on the third, for days before the first.
DAYS: tuple[tuple[str, str, list[tuple[str, list[dict[str, Any]]]]], ...] = (
    ("2026-07-06", "2026-07-07 08:00", [
        ("business_register", [{"brn": "90000001"}, {"brn": "90000002", "name_en": "Halyard Reef Limited"}]),
        ("customs_declarations", [
            {"declaration_no": "DDDDDDDD01", "line_no": 1, "value_hkd": 100},
            {"declaration_no": "DDDDDDDD01", "line_no": 2, "value_hkd": 20},
            {"declaration_no": "DDDDDDDD03", "value_hkd": 7, "form_type": "1"},
        ]),
        ("funding_applications", [{"application_no": "A1", "status_at": "2026-01-05 10:00", "status": "received"}]),
    ]),
    ("2026-07-07", "2026-07-08 08:00", [
        ("customs_declarations", [{"declaration_no": "DDDDDDDD01", "version": 2, "value_hkd": 60}]),
        ("funding_applications", [{"application_no": "A1", "status_at": "2026-07-07 10:00"}]),
    ]),
    ("2026-07-08", "2026-07-09 08:00", [
        ("customs_declarations", [
            {"declaration_no": "DDDDDDDD02", "value_hkd": 40, "trader_id": "90000002", "movement_date": "2026-06-30"},
        ]),
    ]),
)  # fmt: skip


@pytest.mark.slow
def test_marts_as_known_are_those_of_the_release_made_then(sampan, models_only):
    for day, at, deliveries in DAYS[:2]:
        for feed, rows in deliveries:
            _published(feed, day, rows, at)
    then = _marts(sampan, f"release_{_released('2026-07-08 23:00')}")
    for day, at, deliveries in DAYS[2:]:
        for feed, rows in deliveries:
            _published(feed, day, rows, at)
    live = _released("2026-07-09 23:00")
    now = _marts(sampan, f"release_{live}")
    assert then["mart_sme_trade_monthly"] != now["mart_sme_trade_monthly"]

    done = as_known.run(datetime(2026, 7, 8, 23, tzinfo=HONG_KONG))

    assert done["schema"] == "as_known_20260708t230000"
    assert _marts(sampan, done["schema"]) == then
    # What is live is not touched, and nothing of the making is left.
    assert _marts(sampan, f"release_{live}") == now
    assert sampan.one("select state from ops.build where build_no = %s", live) == "released"
    assert sampan.rows("select nspname from pg_namespace where nspname ~ '^as_(known|delivered)_'") == [
        (done["schema"],)
    ]
    assert build.run()["batches"] == 0
    assert [item["schema"] for item in as_known.list_snapshots()] == [done["schema"]]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        sampan.rows(f"delete from {done['schema']}.mart_sme_trade_monthly returning 1", role="bi")

    # By business date the first day alone; the revisions of the month say the same.
    by_day = as_known.run(date(2026, 7, 6), "delivered")["schema"]
    newest = "select distinct on (movement_month, flow) value_hkd from marts.mart_trade_revisions"
    for schema, day in ((by_day, "2026-07-06"), (done["schema"], "2026-07-07"), ("marts", "2026-07-08")):
        revised = sampan.one(
            f"select sum(value_hkd) from ({newest} where series = 'declared' and known_on <= %s"
            " order by movement_month, flow, known_on desc) as known",
            day,
            role="bi",
        )
        assert revised == sampan.one(f"select sum(value_hkd) from {schema}.mart_sme_trade_monthly", role="bi"), schema
    assert sampan.one(f"select sum(value_hkd) from {by_day}.mart_sme_trade_monthly", role="bi") == 127

    # Dropped it is gone.
    as_known.drop(by_day)
    with pytest.raises(PermanentFailure, match="no marts as_delivered_20260706; existing: as_known_20260708t230000"):
        as_known.drop(by_day)


def test_nothing_is_left_behind_when_nothing_was_known_or_a_model_fails(sampan, models_only, monkeypatch):
    with pytest.raises(PermanentFailure, match="no available batch was published by 2026-07-06"):
        as_known.run(date(2026, 7, 6))
    _published("customs_declarations", "2026-07-06", [{"declaration_no": "DDDDDDDD01"}], "2026-07-06 20:00")
    monkeypatch.setattr(as_known, "all_steps", lambda: (steps.Step("staging"), steps.Step("intermediate")))
    with pytest.raises(PermanentFailure, match="step intermediate"):
        as_known.run(date(2026, 7, 6))
    assert sampan.rows("select nspname from pg_namespace where nspname ~ '^as_'") == []
    assert as_known.list_snapshots() == []
    # Batches that are deleted cannot be asked.
    sampan.rows("update ops.batch set deleted_at = now() returning 1")
    with pytest.raises(PermanentFailure, match="no available batch"):
        as_known.run(date(2026, 7, 6))


def test_marts_as_known_are_prepared_as_those_of_a_build_are():
    prepared = {step.name for step in steps.all_steps() if step.prepare}
    assert prepared == {step.name for step in steps.PREPARED}
    assert {step.name for step in steps.all_steps() if step.prepare_as_known} == prepared - {"identity"}


def test_links_are_those_of_the_date(sampan):
    def linked(at: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(settings().dsn("builder")) as connection:
            connection.execute("insert into ops.build (state, as_of_date) values ('as_known', '2026-07-06')")
            connection.execute(
                "insert into ops.as_known (build_no, known_on, known_until, basis, schema_name, deleted_batches)"
                " select max(build_no), '2026-07-06', %s, 'published', 'as_known_x', 0 from ops.build",
                [at],
            )
            connection.execute("select set_config('sampan.as_known', max(build_no)::text, true) from ops.build")
            found = connection.execute("select source_key, number from ops.identity_link_known order by 1").fetchall()
            connection.rollback()
        return found

    times = []
    for statement in (
        "insert into ops.identity_link (source, source_key, state)"
        " values ('shop', 'jd:1', 'review'), ('shop', 'jd:2', 'review')",
        "insert into ops.identity_link (source, source_key, number, state, basis)"
        " values ('shop', 'jd:1', '90000001', 'linked', 'name') on conflict (source, source_key)"
        " do update set number = excluded.number, state = excluded.state, basis = excluded.basis",
        "delete from ops.identity_link where source_key = 'jd:2'",
    ):
        times.append(sampan.one("select clock_timestamp()::text"))
        sampan.rows(f"{statement} returning 1", role="builder")
    times.append("infinity")
    assert [linked(at) for at in times] == [
        [],
        [("jd:1", None), ("jd:2", None)],
        [("jd:1", "90000001"), ("jd:2", None)],
        [("jd:1", "90000001")],
    ]
    assert sampan.rows("select source_key, number from ops.identity_link_known") == [("jd:1", "90000001")]
