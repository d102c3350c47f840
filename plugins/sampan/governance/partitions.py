"""The partitions of raw, and the lock under which they are maintained."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager

from sampan.database import Connection, lock


def maintenance_lock() -> AbstractContextManager[None]:
    """Hold the lock on maintenance. Raises TransientFailure when another maintenance run holds it."""
    return lock("loader", "maintenance", "another maintenance run is working on this warehouse")


def partitions(connection: Connection, feed: str) -> list[tuple[str, list[int]]]:
    """The partitions of raw.<feed>: name, and the numbers of the batches in it."""
    rows = connection.execute(
        """
        select c.relname, pg_get_expr(c.relpartbound, c.oid) from pg_inherits as i
        join pg_class as c on c.oid = i.inhrelid
        where i.inhparent = to_regclass(format('raw.%%I', %s::text))
        order by 1
        """,
        [feed],
    ).fetchall()
    return [(name, [int(number) for number in re.findall(r"[0-9]+", bound)]) for name, bound in rows]
