"""Alerts: what somebody has to know, as rows of `ops.alert`. `sampan.monitoring` sends them."""

from __future__ import annotations

import asyncio
from typing import Any

from sampan.database import Connection, connect


def raise_alert(connection: Connection, kind: str, feed: str | None, message: str, cause: str | None = None) -> None:
    """Raise an alert, in the connection's transaction if one is open. `kind` is a word to filter by, such as deadline.

    Its severity follows from the kind. Alerts of one `cause` (default: kind and feed) are sent and silenced together. The
    message is cut to 4,000 characters.
    """
    connection.execute("select ops.raise_alert(%s, %s, %s, %s)", [kind, feed, message, cause])


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
