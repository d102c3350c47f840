"""Status: what each feed has delivered so far, and the problems that are open now."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime
from typing import Any

from sampan.database import connect
from sampan.errors import Problem
from sampan.ingest.freshness import STATES

TOTALS = (
    "feed", "batches", "published", "held", "held, replaced", "in progress", "rows published", "rows quarantined",
    "rows duplicate", "rows held", "latest date",
)  # fmt: skip


def totals() -> list[tuple[Any, ...]]:
    """One row per feed that has delivered, in order of feed; its columns are `TOTALS`."""
    query = """
        select
            feed,
            count(*)::int as batches,
            count(*) filter (where state = 'published')::int as published,
            count(*) filter (where state = 'held' and batch_id in (select batch_id from ops.open_problem))::int as held,
            count(*) filter (
                where state = 'held' and batch_id not in (select batch_id from ops.open_problem where batch_id is not null)
            )::int as replaced,
            count(*) filter (where state not in ('published', 'held'))::int as in_progress,
            coalesce(sum(rows_published), 0)::bigint as rows_published,
            coalesce(sum(rows_quarantined), 0)::bigint as rows_quarantined,
            coalesce(sum(rows_duplicate), 0)::bigint as rows_duplicate,
            coalesce(sum(rows_held), 0)::bigint as rows_held,
            max(business_date) filter (where state = 'published') as latest_date
        from ops.batch
        group by feed
        order by feed
    """
    with connect() as connection:
        return connection.execute(query).fetchall()


def open_problems() -> list[tuple[str, date | None, int | None, Problem]]:
    """Feed, business date, batch and problem of everything that is held or refused now; date and batch where known."""
    query = "select feed, business_date, batch_id, problem from ops.open_problem order by feed, business_date, batch_id"
    with connect() as connection:
        rows = connection.execute(query).fetchall()
    return [(feed, day, batch, problem_from(stored)) for feed, day, batch, stored in rows]


def newest_alerts(days: int, most: int) -> list[tuple[datetime, str, str | None, str]]:
    """Time, kind, feed and message of the newest alerts of some days; not those of what the open problems show."""
    query = """
        select raised_at, kind, feed, message from ops.alert
        where raised_at > now() - make_interval(days => %s) and kind not in ('held', 'rejected')
        order by alert_id desc
        limit %s
    """
    with connect() as connection:
        return connection.execute(query, [days, most]).fetchall()


def problem_from(stored: dict[str, Any]) -> Problem:
    """A Problem as the ledger stored it, which may also say who accepted it."""
    return Problem(**{name: stored[name] for name in Problem.__dataclass_fields__ if name in stored})


def counts_by_state(deliveries: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """By feed: how many of the deliveries (rows of `freshness.days`) are in each state of `freshness.STATES`."""
    counts: dict[str, Counter[str]] = {}
    for row in deliveries:
        counts.setdefault(row["feed"], Counter())[row["state"]] += 1
    return {feed: {state: tally[state] for state in STATES} for feed, tally in counts.items()}
