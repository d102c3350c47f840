"""Freshness: which deliveries are due, late at the partner, late here or held.

The marts and `sampan status` read the same function, `ops.feed_days` (infra/postgres/after_feeds/90_freshness.loader.sql).
Times are in Hong Kong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any, cast

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from sampan.calendar import HONG_KONG
from sampan.contracts.registry import get_contract
from sampan.database import Connection, connect, scalar
from sampan.errors import Code, Problem, TransientFailure, require_reason

STATES = {
    "held": "held by the gate",
    "late_here": "late here",
    "late_at_partner": "late at the partner",
    "not_yet_due": "not yet due",
    "accepted": "nothing delivered, accepted",
    "arrived": "arrived",
}
# Metadata of an object of a simulated partner. It counts only while the clock is set, which a partner cannot do.
SENT_AT = "sent-at"


def record_poll(feed: str, problem: Problem | None = None, at: datetime | None = None, wait: float = 0.0) -> None:
    """Record that a feed was polled for deliveries (now by the clock, or at a time), and the problem if its API failed.

    `wait` are the seconds for which the API is not to be asked again.
    """
    with connect() as connection:
        connection.execute(
            """
            insert into ops.feed_poll (feed, polled_at, problem, wait_until)
            values (%s, coalesce(%s, ops.now()), %s, clock_timestamp() + make_interval(secs => nullif(%s, 0.0)))
            on conflict (feed) do update set
                polled_at = excluded.polled_at, problem = excluded.problem, wait_until = excluded.wait_until
            """,
            [feed, at, Jsonb(problem.as_dict()) if problem else None, wait],
        )


def require_poll_allowed(feed: str) -> None:
    """Raise TransientFailure while a feed's API asked not to be asked again."""
    with connect() as connection:
        row = connection.execute(
            "select wait_until - clock_timestamp() from ops.feed_poll where feed = %s and wait_until > clock_timestamp()",
            [feed],
        ).fetchone()
    if row is not None:
        seconds = row[0].total_seconds()
        message = f"the API of {feed} asked not to be asked again for {seconds:,.0f} seconds more"
        raise TransientFailure(message, retry_after=seconds)


def now() -> datetime:
    """The time used for freshness, in Hong Kong: that of the clock if it is set, else the current time."""
    with connect() as connection:
        at: datetime = scalar(connection, "select ops.now()")
    return at.astimezone(HONG_KONG)


def clock(connection: Connection) -> datetime | None:
    """The time at which the clock stands, in Hong Kong, or None when it is not set."""
    row = connection.execute("select stands_at from ops.clock").fetchone()
    return row[0].astimezone(HONG_KONG) if row else None


def today(connection: Connection) -> date:
    """The date in Hong Kong by the clock, or the current one when it is not set."""
    at: datetime = scalar(connection, "select ops.now()")
    return at.astimezone(HONG_KONG).date()


def receipt(connection: Connection, head: Mapping[str, Any]) -> datetime:
    """When an object came, given what the store says of it: by the store or, while the clock is set, as was written on it."""
    sent = head["Metadata"].get(SENT_AT) if clock(connection) else None
    return datetime.fromisoformat(sent) if sent else cast(datetime, head["LastModified"])


def set_clock(at: datetime | None) -> None:
    """Set the time used for freshness, business dates and API requests, for simulated data and for looking back.

    None means now again.
    """
    with connect(autocommit=False) as connection:
        connection.execute("delete from ops.clock")
        if at is not None:
            connection.execute("insert into ops.clock (stands_at) values (%s)", [at])
        connection.commit()


def days(feed: str | None = None, at: datetime | None = None) -> list[dict[str, Any]]:
    """Every expected delivery (of one feed or all) with its state, in order of feed and date: rows of ops.feed_days."""
    with connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            """
            select * from ops.feed_days(coalesce(%s, ops.now()))
            where %s::text is null or feed = %s
            order by feed, business_date
            """,
            [at, feed, feed],
        ).fetchall()


def counts_by_state(deliveries: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """By feed: how many of the deliveries (rows of `days`) are in each of the STATES."""
    counts: dict[str, Counter[str]] = {}
    for row in deliveries:
        counts.setdefault(row["feed"], Counter())[row["state"]] += 1
    return {feed: {state: tally[state] for state in STATES} for feed, tally in counts.items()}


def close(days: Iterable[date], reason: str, by: str, feed: str | None = None) -> None:
    """Record that nothing is due for days (a typhoon, a closed partner), for one feed or all; replaces earlier reasons."""
    require_reason(reason, Code.CALENDAR_REASON)
    if feed is not None:
        get_contract(feed)
    with connect() as connection:
        connection.execute(
            """
            insert into ops.closure (day, feed, reason, decided_by)
            select day, %s, %s, %s from unnest(%s::date[]) as closed (day)
            on conflict (day, feed) do update set
                reason = excluded.reason, decided_by = excluded.decided_by, decided_at = clock_timestamp()
            """,
            [feed, reason, by, sorted(set(days))],
        )


def reopen(day: date, feed: str | None = None) -> bool:
    """Remove a closure. Returns whether there was one."""
    with connect() as connection:
        done = connection.execute(
            "delete from ops.closure where day = %s and feed is not distinct from %s", [day, feed]
        )
        return done.rowcount == 1
