"""What the DAG modules share: the asset of a feed, the retries and the pages of tasks, and what the triggerer waits for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, AssetAlias, AssetWatcher, ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

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


def mart_asset(mart: str) -> Asset:
    """The asset whose events mean that `marts.<mart>` has other rows."""
    return Asset(name=mart, uri=f"x-sampan://marts/{mart}")


# The marts that a release brought: an event of the asset of each.
RELEASED = AssetAlias("released_marts")
# Batches that a request published: an event of the asset of each of their feeds.
PUBLISHED_BY_REQUEST = AssetAlias("published_by_request")
# Seconds until the trigger asks again, and after it lost the warehouse.
PAUSE, PATIENCE = 2, 10


def page_of(summary: str, when_red: str) -> str:
    """A task's page in Airflow: what it does, and what to do when it is red."""
    return f"{summary}\n\n**When red:** {when_red}"


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


# Seconds for which the triggers of all that waits for a decision share one look at what is still open.
LOOK = 15


class DecidedElsewhere(BaseTrigger):  # type: ignore[misc]
    """Ends a question among the Required Actions with its default, when it was decided elsewhere or its time is over.

    `key` is that of `requests.Undecided`. An answer that is given in Airflow resumes the task without this trigger.
    """

    open: frozenset[str] = frozenset()
    looked_at = float("-inf")
    looking = asyncio.Lock()

    def __init__(self, ti_id: str, key: str, default: list[str], until: datetime) -> None:
        super().__init__()
        self.ti_id, self.key, self.default, self.until = ti_id, key, default, until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How the triggerer makes it again."""
        values = {"ti_id": self.ti_id, "key": self.key, "default": self.default, "until": self.until}
        return f"{type(self).__module__}.{type(self).__qualname__}", values

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """The event that ends the question."""
        begun = time.monotonic()
        while datetime.now(UTC) < self.until and await self._is_open(begun):
            await asyncio.sleep(LOOK)
        yield TriggerEvent(await asyncio.to_thread(self._ended))

    async def _is_open(self, begun: float) -> bool:
        """Whether it still waits for a decision, by a look since it was asked. One that cannot be looked for does: a trigger
        that fails would take the question off the list, although no one has decided.
        """
        shared = DecidedElsewhere
        async with shared.looking:
            now = time.monotonic()
            if shared.looked_at < max(begun, now - LOOK):
                try:
                    from sampan import requests

                    shared.open = await asyncio.to_thread(requests.open_keys)
                except Exception as error:  # noqa: BLE001 - no one has decided, for any error
                    self.log.warning("cannot look for what is decided: %s", type(error).__name__)
                    return True
                shared.looked_at = now
        return self.key in shared.open

    def _ended(self) -> dict[str, Any]:
        """The answer as the operator takes it: the default, or what a person chose a moment before."""
        from uuid import UUID

        from airflow.sdk.execution_time import hitl

        ti_id = UUID(self.ti_id)
        answer = hitl.get_hitl_detail_content_detail(ti_id)
        if not answer.response_received:
            answer = hitl.update_hitl_detail_response(ti_id, self.default, {})
        person = answer.responded_by_user
        return {
            "chosen_options": list(answer.chosen_options or ()),
            "params_input": answer.params_input or {},
            "responded_at": answer.responded_at,
            "responded_by_user": {"id": person.id, "name": person.name} if person else None,
            "timedout": person is None,
        }
