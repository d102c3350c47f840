"""What the DAG modules share: the asset of a feed, and the retries of tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, AssetAlias, AssetWatcher, ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

POOL = "warehouse"
# A new installation waits for the next time of a schedule. By default Airflow would also run one of the last few hours.
FROM_NOW_ON = timedelta(0)

BUGS = ["psycopg.ProgrammingError"]
BUGS += [f"builtins.{name}Error" for name in ("Assertion", "Attribute", "Import", "Lookup", "Name", "Type")]

# Transient failures and unexpected errors are retried with growing delays; permanent failures and bugs fail at once.
DEFAULTS: dict[str, Any] = {
    "retries": 5,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=5),
    "retry_policy": ExceptionRetryPolicy(
        [
            RetryRule("sampan.errors.PermanentFailure", RetryAction.FAIL, reason="a retry gives the same result"),
            RetryRule(BUGS, RetryAction.FAIL, reason="a retry does not fix a bug"),
        ]
    ),
    "execution_timeout": timedelta(hours=2),
}


# Its events mean that readers see another release.
RELEASE = Asset(name="release", uri="x-sampan://marts/release")


def asset_of(feed: str) -> Asset:
    """The asset whose events mean that `raw.<feed>` has new rows."""
    # With the prefix "x-" Airflow does not import all providers at every parse to look up the scheme.
    return Asset(name=feed, uri=f"x-sampan://raw/{feed}")


# Batches that a request published: an event of the asset of each of their feeds.
PUBLISHED_BY_REQUEST = AssetAlias("published_by_request")
# Seconds until the trigger asks again, and after it lost the warehouse.
PAUSE, PATIENCE = 2, 10


class RequestTrigger(BaseEventTrigger):  # type: ignore[misc]
    """Fires when somebody has asked for something at a desk, once for what waits.

    It looks into the table. Messages of PostgreSQL (NOTIFY) are open to every login, and one that fetches none of its own
    fills their queue: no one could ask for anything then.
    """

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How the triggerer makes it again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """An event for what waits, as soon as it does."""
        import psycopg
        from sampan.settings import settings

        waiting = "select max(request_id) from ops.request where state = 'waiting' and request_id > %s"
        told = 0
        while True:
            try:
                dsn = settings().dsn("loader")
                async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
                    while True:
                        found = await (await connection.execute(waiting, [told])).fetchone()
                        if found and found[0]:
                            told = found[0]
                            yield TriggerEvent({"request_id": told})
                        await asyncio.sleep(PAUSE)
            except psycopg.OperationalError:
                await asyncio.sleep(PATIENCE)


def requests_asset() -> Asset:
    """The asset whose events mean that somebody asked for something at a desk."""
    watcher = AssetWatcher("asked", trigger=RequestTrigger())
    return Asset(name="request", uri="x-sampan://ops/request", watchers=[watcher])
