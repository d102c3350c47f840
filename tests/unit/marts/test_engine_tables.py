"""What the gate reads beside marts is handed over by every engine."""

from __future__ import annotations

import re

import yaml
from sampan.marts import dbt
from sampan.quality import mart_rules


def test_tables_that_rules_of_marts_name_are_marked_as_read_by_the_gate():
    rules = "".join(path.read_text("utf-8") for path in mart_rules.FOLDER.glob("*.yaml"))
    named = set(re.findall(r"\b(?:intermediate|staging)\.(\w+)", rules))
    marked = {
        item["name"]
        for path in dbt.PROJECT.rglob("*.yml")
        for kind in ("models", "seeds")
        if isinstance(listed := (yaml.safe_load(path.read_text("utf-8")) or {}).get(kind), list)
        for item in listed
        if item.get("config", {}).get("meta", {}).get("read_by_gate")
    }
    assert named == marked
    assert named
