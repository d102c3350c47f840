"""Alerts to the owner of a feed: rows of `ops.alert`, which a person, or a tool that reads the table, passes on."""

from __future__ import annotations

import asyncio
from typing import Any

from sampan.database import Connection, connect


def raise_alert(connection: Connection, kind: str, feed: str | None, message: str) -> None:
    """Insert an alert, in the connection's transaction if one is open. `kind` is a word to filter by, such as deadline."""
    connection.execute("insert into ops.alert (kind, feed, message) values (%s, %s, %s)", [kind, feed, message])


async def deadline_missed(feed: str, minutes: int, context: dict[str, Any] | None = None) -> None:
    """Callback of a DAG's deadline, run by Airflow's triggerer: the run has not finished `minutes` after it was queued.

    Airflow forgets a deadline only when a run succeeds, so it is also called for a run that has failed long before.
    """
    run = (context or {}).get("dag_run") or {}
    if run.get("end_date"):
        return
    message = (
        f"ingest__{feed}: {run.get('dag_run_id', 'a run')} did not finish within {minutes} minutes of being queued"
    )

    def write_alert() -> None:
        with connect() as connection:
            raise_alert(connection, "deadline", feed, message)

    await asyncio.to_thread(write_alert)
