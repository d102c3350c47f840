"""dbt's own command, as an analytics engineer runs it by hand. All values are synthetic."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import psycopg
import pytest
from sampan.errors import PermanentFailure
from sampan.marts import build, dbt
from sampan.settings import settings

from tests.integration.published import publish

FEED = "customs_declarations"


def test_dbt_by_hand_knows_how_fresh_a_source_is_and_builds_nothing(sampan):
    publish(FEED, "2026-07-06", [{"declaration_no": "DDDDDDDD01"}])
    sampan.rows("update ops.batch set published_at = now() - interval '7 days' returning 1")
    assert dbt.command(["source", "freshness", "--select", f"source:raw.{FEED}", "--quiet"])
    (found,) = json.loads((settings().state / "dbt_by_hand" / "sources.json").read_text())["results"]
    assert (found["unique_id"], found["status"]) == (f"source.sampan.raw.{FEED}", "warn")
    # A model is built in a step of a build, which has its claim.
    assert not dbt.command(["run", "--select", "stg_customs__declarations", "--quiet"])
    assert sampan.rows("select from pg_class where relname = 'stg_customs__declarations'") == []


@pytest.mark.slow
def test_a_step_runs_through_the_command_of_dbt_as_it_does_in_process(sampan, monkeypatch):
    publish(FEED, "2026-07-06", [{"declaration_no": "DDDDDDDD01"}])
    build.run("staging")
    query = """
        select node, resource_type, status, message is null as is_silent from ops.build_node
        where step = 'staging' order by node
    """
    in_process = sampan.rows(query, role="builder")
    assert len(in_process) > 30
    before = sampan.one("select max(recorded_at) from ops.build_node", role="builder")
    monkeypatch.setenv("SAMPAN_DBT", str(Path(sys.executable).with_name("dbt")))
    settings.cache_clear()
    build.run("staging", force=True)
    assert sampan.one("select min(recorded_at) from ops.build_node", role="builder") > before
    assert sampan.rows(query, role="builder") == in_process
    assert sampan.one("select count(*) from staging.stg_customs__declarations", role="builder") == 1


@pytest.mark.slow
def test_a_model_that_fails_is_named_by_the_command_of_dbt_without_its_rows(sampan, monkeypatch):
    publish(FEED, "2026-07-06", [{"declaration_no": "DDDDDDDD01"}])
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as connection:
        connection.execute(f"alter table raw.{FEED} rename column trader_id to who")
    monkeypatch.setenv("SAMPAN_DBT", str(Path(sys.executable).with_name("dbt")))
    settings.cache_clear()
    with pytest.raises(PermanentFailure, match=r"step staging of build 1 failed: .*stg_customs__declarations: "):
        build.run("staging")
