"""What is broken now, and since when: late and held deliveries, marts that wait, a build that failed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from sampan.calendar import HONG_KONG
from sampan.database import Connection, connect
from sampan.errors import Problem

# In the order of urgency.
STATES = {
    "failed": "the build failed",
    "carried": "marts wait",
    "held": "held by the gate",
    "refused": "refused",
    "late_here": "late here",
    "late_at_partner": "late at the partner",
}


@dataclass(frozen=True)
class Fault:
    """One thing that is broken. `subject`: a feed, a step of the build whose marts wait, or `build`.

    `count`: deliveries, or marts that wait. `since` (Hong Kong time): received, or due, or failed.
    """

    subject: str
    code: str
    first_date: date | None
    last_date: date | None
    count: int
    batch_id: int | None
    since: datetime | None
    problem: Problem | None

    @property
    def state(self) -> str:
        """What it is, in words."""
        return STATES[self.code]

    @property
    def cause(self) -> str:
        """The cause of its alerts: what is held and what is refused is one, of the whole feed."""
        return f"{'held' if self.code == 'refused' else self.code}:{self.subject}"

    @property
    def dates(self) -> str | None:
        """Its business date, or the first and the last one."""
        if self.first_date is None:
            return None
        return f"{self.first_date}" if self.first_date == self.last_date else f"{self.first_date} to {self.last_date}"

    @property
    def why(self) -> str:
        """Why it is broken, or what is known of it."""
        at = f"{self.since:%F %R}" if self.since else ""
        reason = {
            "late_here": f"not published by {at}; see the newest run of ingest__{self.subject} in Airflow",
            "late_at_partner": f"was due at {at}; nothing has come",
        }.get(self.code, "")
        return "; ".join(part for part in (reason, str(self.problem) if self.problem else "") if part)


def now(at: datetime | None = None) -> list[Fault]:
    """Everything that is broken now by the clock, or at a time, the most urgent first; then the latest first."""
    with connect("builder") as connection:
        return faults(connection, at)


def faults(connection: Connection, at: datetime | None = None) -> list[Fault]:
    """As `now` does, in a session of the loader's or the builder's."""
    rows = connection.execute(
        """
        select subject, state, first_date, last_date, deliveries, batch_id, since, problem
        from ops.broken(coalesce(%s, ops.now()))
        """,
        [at],
    ).fetchall()
    found = [
        Fault(
            subject, state, first, last, count, batch,
            since.astimezone(HONG_KONG) if since else None, Problem.stored(problem) if problem else None,
        )
        for subject, state, first, last, count, batch, since, problem in rows
    ]  # fmt: skip
    rank = list(STATES)
    return sorted(
        found,
        key=lambda fault: (
            rank.index(fault.code), fault.subject, -(fault.last_date or date.min).toordinal(), -(fault.batch_id or 0)
        ),
    )  # fmt: skip
