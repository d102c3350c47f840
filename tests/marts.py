"""The marts as readers see them, for tests that compare two ways to make them."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import psycopg

# When the platform did something, not what it holds.
DONE_AT = ("release_no", "last_loaded_at", "published_at", "judged_at")
Marts = dict[str, Counter[str]]


def shown(dsn: str) -> Marts:
    """Every row of every mart of the live release that a role may read, but for when things were done."""
    query = "select relname from pg_class where relnamespace = 'marts'::regnamespace and relkind = 'v'"
    readable = f"{query} and has_table_privilege(current_user, oid, 'select') order by 1"
    with psycopg.connect(dsn) as connection:
        names = [name for (name,) in connection.execute(readable)]
        return {
            name: Counter(
                json.dumps({key: value for key, value in row.items() if key not in DONE_AT}, sort_keys=True)
                for (row,) in connection.execute(f"select to_jsonb(m) from marts.{name} m")
            )
            for name in names
        }


def differences(these: Marts, those: Marts) -> dict[str, Any]:
    """By mart, up to two rows that only one of both has; empty when they are the same."""
    assert these.keys() == those.keys()
    return {
        mart: (list((these[mart] - those[mart]).elements())[:2], list((those[mart] - these[mart]).elements())[:2])
        for mart in these
        if these[mart] != those[mart]
    }
