"""Commands of the calendar: when deliveries are due, days off, and the time at which freshness is judged."""

from __future__ import annotations

import getpass
from datetime import datetime
from typing import Annotated

import typer

from sampan.calendar import HONG_KONG
from sampan.cli.arguments import Feed, command_group, complete_feed
from sampan.cli.output import lists, out, table
from sampan.errors import Code, PermanentFailure, Problem

group = command_group("When deliveries are due: days off, and the time at which freshness is judged.")

ForFeed = Annotated[
    str | None, typer.Option("--feed", help="Only this feed. Default: all.", autocompletion=complete_feed)
]
BusinessDate = Annotated[datetime, typer.Argument(formats=["%Y-%m-%d"], help="The business date.")]


@group.command("show")
@lists
def calendar_show(
    feed: Feed, last: Annotated[int, typer.Option(help="Show at most this many of the latest.")] = 15
) -> None:
    """Show the deliveries that a feed owes: when each was due, when it arrived, its state now.

    Example: sampan calendar show customs_declarations
    """
    from sampan.contracts.registry import get_contract
    from sampan.ingest import freshness

    get_contract(feed)
    rows = [
        (row["business_date"], f"{row['due_at']:%F %R}", f"{at:%F %R}" if (at := row["first_received_at"]) else "",
         freshness.STATES[row["state"]], row["rows_published"])
        for row in freshness.days(feed)[-last:]
    ]  # fmt: skip
    table(feed, ["date", "due", "arrived", "state", "rows"], rows)


@group.command("close")
def calendar_close(
    day: BusinessDate,
    reason: Annotated[str, typer.Option(help="Why nothing is due; kept with the closure.")],
    feed: ForFeed = None,
) -> None:
    """Mark a day as closed, so that nothing is due: a typhoon, or a partner's day off.

    Example: sampan calendar close 2026-07-06 --reason "typhoon signal 8"
    """
    from sampan.ingest import freshness

    freshness.close([day.date()], reason, getpass.getuser(), feed)
    out.print(f"{day.date()}: nothing is due for {feed or 'any feed'}; `sampan calendar reopen` undoes it.")


@group.command("reopen")
def calendar_reopen(day: BusinessDate, feed: ForFeed = None) -> None:
    """Remove a closure.

    Example: sampan calendar reopen 2026-07-06
    """
    from sampan.ingest import freshness

    if not freshness.reopen(day.date(), feed):
        raise PermanentFailure(Problem(Code.CALENDAR_CLOSURE, f"{day.date()} is not closed for {feed or 'all feeds'}"))
    out.print(f"{day.date()} counts again.")


@group.command("clock")
def calendar_clock(
    at: Annotated[datetime | None, typer.Argument(help="A time in Hong Kong. Default: back to now.")] = None,
) -> None:
    """Judge freshness and call APIs as of another time: for simulated days, or to look back. The ledger does not change.

    Example: sampan calendar clock "2026-07-07 12:00:00"
    """
    from sampan.ingest import freshness

    freshness.set_clock(at.replace(tzinfo=HONG_KONG) if at else None)
    out.print(f"Freshness is judged, and APIs are called, as of {freshness.now():%F %R}, Hong Kong time.")
