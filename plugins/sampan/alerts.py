"""What the owner of a feed is to be told: a row of `ops.alert`, which a person, or a tool that reads it, passes on."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg

from sampan.database import connect


def raise_alert(connection: psycopg.Connection, kind: str, feed: str, message: str) -> None:
    """Write one alert, in the connection's transaction if it is in one. `kind` is a word to filter by, such as deadline."""
    connection.execute("insert into ops.alert (kind, feed, message) values (%s, %s, %s)", [kind, feed, message])


async def deadline_missed(feed: str, minutes: int, context: dict[str, Any] | None = None) -> None:
    """Callback of a DAG's deadline, which Airflow's triggerer runs: the run was still going `minutes` after it was queued."""
    run = ((context or {}).get("dag_run") or {}).get("dag_run_id", "a run")
    message = f"ingest__{feed}: {run} was not done {minutes} minutes after it was queued"

    def leave_word() -> None:
        with connect() as connection:
            raise_alert(connection, "deadline", feed, message)

    await asyncio.to_thread(leave_word)
