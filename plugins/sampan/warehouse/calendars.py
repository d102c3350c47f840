"""The release calendars of the contracts and the holidays, as tables that SQL can read."""

from __future__ import annotations

from sampan.calendar import holidays, today
from sampan.contracts.registry import all_contracts
from sampan.database import Connection

# No feed has older data.
FIRST_YEAR = 2010


def fill_calendars(connection: Connection) -> None:
    """Write the release calendars of the contracts, and the holidays from FIRST_YEAR to two years from now."""
    contracts = all_contracts()
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            insert into ops.feed (
                feed, partner, title, source_kind, calendar_days, calendar_day, due_at, timezone, missing, deadline_minutes
            )
            values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            on conflict (feed) do update set
                partner = excluded.partner,
                title = excluded.title,
                source_kind = excluded.source_kind,
                calendar_days = excluded.calendar_days,
                calendar_day = excluded.calendar_day,
                due_at = excluded.due_at,
                timezone = excluded.timezone,
                missing = excluded.missing,
                deadline_minutes = excluded.deadline_minutes
            """,
            [
                (c.feed, c.partner, c.title, c.source.kind, c.calendar.days, c.calendar.day, c.calendar.due,
                 c.calendar.timezone, c.calendar.missing, c.calendar.deadline_minutes)
                for c in contracts.values()
            ],
        )  # fmt: skip
        cursor.execute("delete from ops.feed where feed <> all(%s)", [list(contracts)])
        known = [(day, name) for year in range(FIRST_YEAR, today().year + 3) for day, name in holidays(year).items()]
        cursor.execute("delete from ops.holiday")
        cursor.executemany("insert into ops.holiday (day, name) values (%s, %s)", known)
