"""dbt's own command, as an analytics engineer runs it by hand. All values are synthetic."""

from __future__ import annotations

import json

from sampan.marts import dbt
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
