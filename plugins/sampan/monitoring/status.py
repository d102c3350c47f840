"""The alerts of the last days, and how the releases stand."""

from __future__ import annotations

from datetime import datetime

from sampan.database import connect

NewAlert = tuple[datetime, str, str, str | None, str]


def newest_alerts(days: int, most: int) -> list[NewAlert]:
    """Time, severity, kind, feed and message of the newest alerts of some days that no one has acknowledged.

    Without those of a state that is over or still shown as broken, of what was told before word for word, and of silenced
    causes.
    """
    query = """
        select raised_at, severity, kind, feed, message from ops.alert as alert
        where
            raised_at > now() - make_interval(days => %s)
            and kind not in ('held', 'rejected', 'late_here', 'late_at_partner', 'carried', 'failed', 'recovered')
            and acknowledged_at is null and (silenced_until is null or silenced_until <= clock_timestamp())
            and not exists (
                select from ops.alert as later
                where later.cause = alert.cause and later.message = alert.message and later.alert_id > alert.alert_id
            )
        order by alert_id desc
        limit %s
    """
    with connect() as connection:
        return connection.execute(query, [days, most]).fetchall()


def live_release() -> tuple[int, datetime] | None:
    """Number of the release that readers see, and since when they see it; None before the first."""
    query = "select release_no, activated_at from ops.release_activation order by activation_no desc limit 1"
    with connect("builder") as connection:
        return connection.execute(query).fetchone()
