"""Compact raw: merge the partitions of every closed month into one, so that queries have fewer partitions to plan."""

from __future__ import annotations

from datetime import date, timedelta

from psycopg import sql

from sampan import failpoints
from sampan.calendar import today
from sampan.contracts.registry import all_contracts
from sampan.database import Connection, connect
from sampan.governance.partitions import maintenance_lock, partitions
from sampan.ingest import ledger


def compact(day: date | None = None) -> dict[str, int]:
    """Merge the partitions of every month that ended at least a month before a day (today without one) into one each.

    Returns the number of merged partitions ("before") and of new ones ("after"). A month's partition lists its batches, so
    readers notice nothing. Batches that arrive for the month later have their own partitions until the next run.
    """
    this_month = (day or today()).replace(day=1)
    last_month = (this_month - timedelta(days=1)).replace(day=1)
    done = {"before": 0, "after": 0}
    with connect() as connection, maintenance_lock():
        for feed in all_contracts():
            batches_of = dict(partitions(connection, feed))
            for month, names in sorted(_by_month(connection, feed, batches_of, last_month).items()):
                if len(names) > 1:
                    batches = sorted(batch for name in names for batch in batches_of[name])
                    # A batch with a lower number may be published later: with the count, the new name is not the old one.
                    target = f"{feed}__m{month}_{batches[-1]}_{len(batches)}"
                    _merge(connection, feed, sorted(names), target, batches)
                    done["before"] += len(names)
                    done["after"] += 1
    return done


def _by_month(connection: Connection, feed: str, batches_of: dict[str, list[int]], before: date) -> dict[str, set[str]]:
    """Names of partitions by month (YYYYMM): those with batches of a single month, which is before a date."""
    month_of = dict(
        connection.execute(
            "select batch_id, to_char(business_date, 'YYYYMM') from ops.batch where feed = %s and business_date < %s",
            [feed, before],
        ).fetchall()
    )
    names: dict[str, set[str]] = {}
    for name, batches in batches_of.items():
        months = {month_of.get(batch) for batch in batches}
        if len(months) == 1 and (month := months.pop()):
            names.setdefault(month, set()).add(name)
    return names


def _merge(connection: Connection, feed: str, names: list[str], target: str, batches: list[int]) -> None:
    """Merge partitions into a new one and drop them, in one transaction."""
    parent, partition = sql.Identifier("raw", feed), sql.Identifier("raw", target)
    parts = [sql.Identifier("raw", name) for name in names]
    numbers = sql.SQL(", ").join(map(sql.Literal, batches))
    found = connection.execute(
        """
        select attname from pg_attribute
        where attrelid = to_regclass(format('raw.%%I', %s::text)) and attnum > 0 and not attisdropped
        order by attnum
        """,
        [feed],
    )
    columns = sql.SQL(", ").join(sql.Identifier(name) for (name,) in found)
    with ledger.transaction(connection):
        connection.execute(sql.SQL("create table {} (like {})").format(partition, parent))
        # With this check the table is attached without a scan.
        check = sql.SQL(
            "alter table {} add constraint of_its_batches check (_batch_id in ({}) and _batch_id is not null)"
        )
        connection.execute(check.format(partition, numbers))
        for part in parts:
            copy = sql.SQL("insert into {} ({columns}) select {columns} from {}")
            connection.execute(copy.format(partition, part, columns=columns))
        for part in parts:
            connection.execute(sql.SQL("drop table {}").format(part))
        attach = sql.SQL("alter table {} attach partition {} for values in ({})")
        connection.execute(attach.format(parent, partition, numbers))
        connection.execute(sql.SQL("alter table {} drop constraint of_its_batches").format(partition))
        failpoints.hit("compaction.before_commit")
