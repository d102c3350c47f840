"""Status: what each feed has delivered so far."""

from __future__ import annotations

from typing import Any

from sampan.database import connect

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
