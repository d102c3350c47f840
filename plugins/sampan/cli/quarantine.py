"""Commands of the quarantine: rows that broke a rule, and what becomes of them."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from sampan.cli.arguments import Day, Feed, Limit, command_group, complete_feed, day_of
from sampan.cli.output import is_machine, lists, message, no_progress, out, table
from sampan.text import indented

group = command_group("Rows that broke a rule: list, show, replay, discard.")

Ids = Annotated[list[int] | None, typer.Argument(help="Quarantine ids.")]
MOST_ROWS_AS_CSV = 1_000_000


@group.command("list")
@lists
def quarantine_list(
    feed: Annotated[str | None, typer.Argument(help="A feed. Default: all.", autocompletion=complete_feed)] = None,
) -> None:
    """Count the rows in quarantine by feed, state and rule.

    Example: sampan quarantine list customs_declarations
    """
    from sampan.contracts.registry import get_contract
    from sampan.ingest import quarantine

    if feed:
        get_contract(feed)
    rows = [row for row in quarantine.counts() if feed in (None, row[0])]
    title = "Quarantine (a row counts once for each rule)"
    table(title, ["feed", "state", "rule", "rows"], rows, "No row is in quarantine.")


@group.command("show")
@lists
def quarantine_show(
    feed: Feed,
    ids: Ids = None,
    date_: Day = None,
    limit: Limit = 20,
    csv: Annotated[bool, typer.Option("--csv", help="As CSV, to correct and replay.")] = False,
) -> None:
    """Show rows in quarantine: file, line, each broken rule with column and value, and the record.

    Example: sampan quarantine show customs_declarations --csv > corrected.csv
    """
    from sampan.contracts.registry import get_contract
    from sampan.ingest import quarantine

    most = MOST_ROWS_AS_CSV if csv else limit
    chosen = quarantine.stream(feed, ids or (), day_of(date_), limit=most)
    if csv:
        header_and_rows = 0
        with no_progress():
            for line in quarantine.export(get_contract(feed), chosen):
                sys.stdout.write(line)
                header_and_rows += 1
        if header_and_rows > most:
            message(f"the first {most:,} rows; there may be more")
        return
    if is_machine():
        rows = [
            (entry.quarantine_id, str(entry.business_date), entry.file, entry.line, column, value, rule, entry.record)
            for entry in chosen
            for column, rule, value in entry.details()
        ]
        headings = ["id", "date", "file", "line", "column", "value", "rule", "record"]
        table("Rows in quarantine (one line for each broken rule)", headings, rows)
        return
    shown = 0
    for entry in chosen:
        shown += 1
        place = f" {entry.file}:{entry.line} ({entry.business_date})"
        out.print(Text(str(entry.quarantine_id), "bold").append(indented(place), "not bold"))
        for column, rule, value in entry.details():
            where = f"{column} = {value!r}: " if column else ""
            out.print(f"    {where}{rule}", markup=False, highlight=False)
        out.print(f"    {indented(entry.record)}", markup=False, highlight=False)
    out.print(f"{shown} rows shown.")


@group.command("replay")
def quarantine_replay(
    feed: Feed,
    ids: Ids = None,
    file: Annotated[Path | None, typer.Option(help="Corrected rows, as CSV from `show --csv`.")] = None,
) -> None:
    """Send rows through the gate again, unchanged or as corrected in a file.

    Example: sampan quarantine replay customs_declarations --file corrected.csv
    """
    from sampan.ingest import quarantine

    done = quarantine.replay(feed, ids or (), file)
    out.print(", ".join(f"{count} {what}" for what, count in done.items()))


@group.command("discard")
def quarantine_discard(
    feed: Feed, ids: Ids, reason: Annotated[str, typer.Option(help="Why; kept with the rows.")]
) -> None:
    """Give up rows for good.

    Example: sampan quarantine discard customs_declarations 17 18 --reason "test rows of the partner"
    """
    from sampan.ingest import quarantine

    out.print(f"discarded: {quarantine.discard(feed, ids or (), reason, getpass.getuser())} rows")
