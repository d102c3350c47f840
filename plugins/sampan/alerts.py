"""What the owner of a feed is to be told: a row of `ops.alert`, which a person, or a tool that reads it, passes on."""

from __future__ import annotations

import asyncio
from typing import Any

from sampan.warehouse import connect


def raise_alert(kind: str, message: str, feed: str | None = None) -> None:
    """Write one alert. `kind` is a word to filter by, such as deadline."""
    with connect() as connection:
        connection.execute(
            "insert into ops.alert (kind, feed, message) values (%s, %s, %s)",
            [kind, feed, message],
        )


async def deadline_missed(feed: str, minutes: int, context: dict[str, Any] | None = None) -> None:
    """Callback of a DAG's deadline, which Airflow's triggerer runs: the run was still going `minutes` after it was queued."""
    run = ((context or {}).get("dag_run") or {}).get("dag_run_id", "a run")
    message = f"ingest__{feed}: {run} was not done {minutes} minutes after it was queued"
    await asyncio.to_thread(raise_alert, "deadline", message, feed)
