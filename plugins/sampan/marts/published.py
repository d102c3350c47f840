"""Months of published tables are published once: what a release has shown of one stays as it was shown.

The same cell in two releases, one less the other, is what was declared in between: of one enterprise, often. See ADR 0033.
"""

from __future__ import annotations

from datetime import date

from sampan.database import Connection, connect, scalar
from sampan.engine import engine
from sampan.errors import Code, PermanentFailure, Problem, require_reason

COLUMNS = "table_name, series, period, row_key, column_key, value"


def keep(connection: Connection, schema: str) -> None:
    """Keep the cells of tables that the open build is the first to publish, those left out without their value."""
    build_no = int(scalar(connection, "select build_no from ops.open_build"))
    connection.execute("delete from ops.published_cell where build_no = %s", [build_no])
    query = f"select {build_no} as build_no, {COLUMNS} from {schema}.int_published__cells"
    engine().insert(connection, f"ops.published_cell (build_no, {COLUMNS})", query)
    connection.execute(
        """
        update ops.published_cell as cell set value = null, is_suppressed = true
        from ops.suppression as left_out
        where
            cell.build_no = %s and left_out.build_no = 0
            and (cell.table_name, cell.series, cell.period, cell.row_key, cell.column_key)
            = (left_out.table_name, left_out.series, left_out.period, left_out.row_key, left_out.column_key)
        """,
        [build_no],
    )


def revise(month: date, reason: str, by: str) -> int:
    """Let the next build publish a month again, with what was declared or withdrawn since. Returns how many cells it had.

    Who has both releases can subtract them: for a figure that is wrong. Raises PermanentFailure when no release has
    shown the month.
    """
    require_reason(reason, Code.RELEASE_REASON)
    with connect("builder") as connection:
        cells = scalar(connection, "select count(*) from ops.published_known where period = %s", [month])
        if not cells:
            problem = Problem(
                Code.RELEASE_REVISION, f"no published table of a release has shown the month {month:%Y-%m}"
            )
            raise PermanentFailure(problem)
        connection.execute(
            """
            insert into ops.published_revision (period, until_build_no, reason, decided_by)
            select %s, max(build_no), %s, %s from ops.build
            """,
            [month, reason, by],
        )
    return int(cells)
