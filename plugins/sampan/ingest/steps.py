"""The steps of the ingest, in order: one list for the command line and the DAGs.

Each step imports its module when it runs: the DAG processor reads this list without loading database drivers or readers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date


def _fetch(feed: str, business_date: date | None = None, only_owed: bool = False) -> dict[str, int]:
    from sampan.ingest import fetch

    return fetch.run(feed, business_date, only_owed)


def _land(feed: str, business_date: date | None = None) -> dict[str, int]:
    from sampan.ingest import land

    return land.run(feed, business_date)


def _load(feed: str, business_date: date | None = None) -> dict[str, int]:
    from sampan.ingest import load

    return load.run(feed, business_date)


def _gate(feed: str, business_date: date | None = None) -> dict[str, int]:
    from sampan.ingest import gate

    return gate.run(feed, business_date)


def _publish(feed: str, business_date: date | None = None) -> dict[str, int]:
    from sampan.ingest import publish

    return publish.run(feed, business_date)


def _lake(feed: str, business_date: date | None = None) -> dict[str, int]:
    from sampan.ingest import lake

    return lake.run(feed, business_date)


@dataclass(frozen=True)
class Step:
    """One step of the ingest of a feed."""

    name: str
    after: str | None
    """The step that has to run before it; None for the first one."""
    uses_warehouse: bool
    """Whether it works on many rows at a time, so that only a few may run at once."""
    summary: str
    run: Callable[..., dict[str, int]]
    """Called with a feed and, optionally, one business date; returns counts by what was counted."""


STEPS = {
    step.name: step
    for step in (
        Step(
            "fetch",
            None,
            False,
            "Find new deliveries of a feed: list its drop prefix, or download from its API.",
            _fetch,
        ),
        Step(
            "land",
            "fetch",
            False,
            "Copy new deliveries, unchanged, to the landing bucket and enter them in the ledger.",
            _land,
        ),
        Step("load", "land", True, "Load landed batches into intake tables.", _load),
        Step("gate", "load", True, "Check loaded batches: bad rows go to quarantine, a bad batch is held.", _gate),
        Step("publish", "gate", True, "Publish gated batches: they become part of raw.", _publish),
        Step("lake", "publish", True, "Write what was published to the lake, as Parquet.", _lake),
    )
}
