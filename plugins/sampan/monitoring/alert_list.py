"""What people do with alerts: list, acknowledge, silence."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sampan.database import connect
from sampan.errors import Code, PermanentFailure, Problem, require_reason
from sampan.text import did_you_mean

COLUMNS = (
    "id", "raised", "severity", "kind", "feed", "cause", "sent", "ended", "acknowledged", "by", "silenced until", "message",
)  # fmt: skip


def newest(limit: int, everything: bool = False) -> list[tuple[Any, ...]]:
    """The newest alerts, those that no one has acknowledged, or all; their columns are COLUMNS."""
    query = """
        select
            alert_id, raised_at, severity, kind, feed, cause, sent_at, ended_at, acknowledged_at, acknowledged_by,
            case when silenced_until > clock_timestamp() then silenced_until end, message
        from ops.alert
        where %s or acknowledged_at is null
        order by alert_id desc
        limit %s
    """
    with connect() as connection:
        return connection.execute(query, [everything, limit]).fetchall()


def unfinished() -> list[tuple[Any, ...]]:
    """Messages that were not sent, with number, recipient, channel, state, attempts, time, problem."""
    query = """
        select message_id, recipient, channel, state, attempts, made_at, problem from ops.alert_message
        where state <> 'sent'
        order by message_id
    """
    with connect() as connection:
        return connection.execute(query).fetchall()


def acknowledge(alerts: list[int], reason: str, by: str) -> int:
    """Record that a person takes care of alerts: they are not sent, `status` shows them no more. Returns how many were new.

    Raises PermanentFailure when one does not exist.
    """
    require_reason(reason, Code.ALERT_REASON)
    with connect() as connection, connection.transaction():
        known = {
            number
            for (number,) in connection.execute("select alert_id from ops.alert where alert_id = any(%s)", [alerts])
        }
        if missing := [number for number in alerts if number not in known]:
            message = f"no alert {', '.join(map(str, missing))}; `sampan alerts list` shows them"
            raise PermanentFailure(Problem(Code.ALERT_UNKNOWN, message))
        return connection.execute(
            """
            update ops.alert set
                acknowledged_at = clock_timestamp(), acknowledged_by = %s, acknowledged_because = %s
            where alert_id = any(%s) and acknowledged_at is null
            """,
            [by, reason, alerts],
        ).rowcount


def silence(cause: str, until: datetime, reason: str, by: str) -> int:
    """Send nothing of a cause before a time; alerts of it are raised and kept as before. Returns how many alerts it has.

    A time that has passed ends the silence. Raises PermanentFailure when nothing was ever raised of the cause.
    """
    require_reason(reason, Code.ALERT_REASON)
    with connect() as connection, connection.transaction():
        count = connection.execute("update ops.alert set silenced_until = %s where cause = %s", [until, cause]).rowcount
        if not count:
            known = [name for (name,) in connection.execute("select distinct cause from ops.alert")]
            message = f"no alert has the cause {cause!r}{did_you_mean(cause, known, 'causes')}"
            raise PermanentFailure(Problem(Code.ALERT_UNKNOWN, message))
        connection.execute(
            "insert into ops.alert_silence (cause, silenced_until, reason, decided_by) values (%s, %s, %s, %s)",
            [cause, until, reason, by],
        )
        return count


def causes() -> list[str]:
    """The causes of all alerts."""
    with connect() as connection:
        return [name for (name,) in connection.execute("select distinct cause from ops.alert order by cause")]
