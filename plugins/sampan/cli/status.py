"""The command `status`: what is broken now, and what is well."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import typer

from sampan.calendar import HONG_KONG
from sampan.cli.arguments import Feeds
from sampan.cli.output import is_machine, lists, note, out, table

commands = typer.Typer()
# What `status` shows of the alerts; `sampan alerts list` has all.
ALERT_DAYS, MOST_ALERTS = 7, 10


@commands.command(rich_help_panel="Day by day")
@lists
def status(
    feeds: Feeds = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what is well: counts of every feed.")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Return 1 when something is broken.")] = False,
    at: Annotated[
        datetime | None, typer.Option("--now", help="Judge lateness at this Hong Kong time. Default: now.")
    ] = None,
) -> None:
    """Show what is broken now and since when: feeds that are late, held deliveries, marts that wait; then what is well.

    Example: sampan status customs_declarations --all
    """
    from sampan.contracts.registry import get_contract
    from sampan.ingest import freshness
    from sampan.monitoring import broken
    from sampan.monitoring import status as status_of

    for feed in feeds or ():
        get_contract(feed)
    moment = at.replace(tzinfo=HONG_KONG) if at else freshness.now()

    def chosen(name: str | None) -> bool:
        return not feeds or name in feeds

    faults = [fault for fault in broken.now(moment) if chosen(fault.subject)]
    rows = [
        (fault.subject, fault.state, fault.dates, fault.count, fault.batch_id and str(fault.batch_id),
         f"{fault.since:%F %R}" if fault.since else None, fault.why)
        for fault in faults
    ]  # fmt: skip
    headings = ["of", "state", "dates", "count", "batch", "since", "why"]
    table(f"Broken at {moment:%F %R}, Hong Kong time", headings, rows, "Nothing is broken.", key="broken")
    _show_alerts(status_of.newest_alerts(ALERT_DAYS, MOST_ALERTS), chosen)
    _show_feeds({fault.subject for fault in faults}, chosen, everything)
    if everything or is_machine():
        owed = [row for row in freshness.days(at=moment) if chosen(row["feed"])]
        counts = [(feed, *tally.values()) for feed, tally in freshness.counts_by_state(owed).items()]
        table("Deliveries due until then", ["feed", *freshness.STATES.values()], counts, key="deliveries")
    if exit_code and faults:
        raise typer.Exit(1)


def _show_alerts(alerts: list[tuple[Any, ...]], chosen: Callable[[str | None], bool]) -> None:
    rows = [
        (f"{time.astimezone(HONG_KONG):%F %R}", severity, kind, feed, text)
        for time, severity, kind, feed, text in alerts
        if chosen(feed)
    ]
    if rows or is_machine():
        title = f"Other alerts of the last {ALERT_DAYS} days that no one has acknowledged"
        table(title, ["raised", "severity", "kind", "feed", "message"], rows, key="alerts")


def _show_feeds(broken: set[str], chosen: Callable[[str | None], bool], everything: bool) -> None:
    from sampan.contracts.registry import feed_names
    from sampan.ingest import status as ingested

    totals = [row for row in ingested.totals() if chosen(row[0])]
    if everything or is_machine():
        table("Feeds", ingested.TOTALS, totals, "No feed has delivered yet.", key="feeds")
        return
    delivered = {row[0] for row in totals}
    well = sorted(delivered - broken)
    silent = [feed for feed in feed_names() if chosen(feed) and feed not in delivered | broken]
    if well:
        what = "1 feed is" if len(well) == 1 else f"{len(well)} feeds are"
        note(f"{what} well; `sampan status --all` lists {'it' if len(well) == 1 else 'them'}.")
    if silent:
        note(f"Never delivered, and not late: {', '.join(silent)}.")
    if not (well or silent or broken):
        out.print("No feed has delivered yet.")
