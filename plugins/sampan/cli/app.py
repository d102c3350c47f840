"""The `sampan` command: each step of the refresh by hand, through the same functions that the DAGs call.

Exit codes: 0 done, 1 a permanent failure (bad data, a bad contract, no such feed), 2 a command that cannot be read,
75 a transient failure (try again).
"""

from __future__ import annotations

import getpass
import logging
import sys
from collections.abc import Callable
from datetime import date, datetime
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sampan import problems
from sampan.contracts.registry import all_contracts, get_contract
from sampan.contracts.validate import check, check_all
from sampan.errors import Code, PermanentFailure, Problem, SampanError, TransientFailure

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
contracts_app = typer.Typer(no_args_is_help=True, help="The contracts of the feeds, and what is derived from them.")
quarantine_app = typer.Typer(no_args_is_help=True, help="Rows that broke a rule: look, correct, replay, discard.")
release_app = typer.Typer(no_args_is_help=True, help="Releases of the marts: make, list, show, roll back.")
marts_app = typer.Typer(no_args_is_help=True, help="The marts: columns that will go.")
as_known_app = typer.Typer(no_args_is_help=True, help="Marts as known on an earlier date: make, list, drop.")
calendar_app = typer.Typer(no_args_is_help=True, help="What is due when: days off, and the clock of the freshness.")
identity_app = typer.Typer(no_args_is_help=True, help="Who is who: links that wait for a person.")
consent_app = typer.Typer(no_args_is_help=True, help="Consents that let banks read: show, revoke.")
retention_app = typer.Typer(no_args_is_help=True, help="Deleting what is past its retention, and the proof of it.")
partitions_app = typer.Typer(no_args_is_help=True, help="The partitions of raw: compact.")
transfer_app = typer.Typer(no_args_is_help=True, help="What leaves the platform: contracts, and the register.")
review_app = typer.Typer(no_args_is_help=True, help="Likely links: list, look, accept, reject.")
identity_app.add_typer(review_app, name="review")
app.add_typer(as_known_app, name="as-known-on")
app.add_typer(consent_app, name="consent")
app.add_typer(contracts_app, name="contracts")
app.add_typer(calendar_app, name="calendar")
app.add_typer(identity_app, name="identity")
app.add_typer(marts_app, name="marts")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(release_app, name="release")
app.add_typer(retention_app, name="retention")
app.add_typer(partitions_app, name="partitions")
app.add_typer(transfer_app, name="transfer")
out = Console()

Feed = Annotated[str, typer.Argument(help="A feed, by the name of its contract.")]
Day = Annotated[
    datetime | None, typer.Option("--date", formats=["%Y-%m-%d"], help="One business date; all without it.")
]


def main() -> None:
    """Run the command; a failure on purpose is one message, not a stack trace."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("botocore", "boto3", "httpx", "great_expectations"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        app()
    except SampanError as error:
        print(f"sampan: {_said(error)}", file=sys.stderr)
        sys.exit(75 if isinstance(error, TransientFailure) else 1)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
        print(f"sampan: {error.diag.message_primary}; `sampan init` makes the warehouse ready", file=sys.stderr)
        sys.exit(1)


def _said(error: SampanError) -> str:
    if isinstance(error, PermanentFailure):
        return f"{error}; see {problems.see(error.problem.rule)}"
    return f"{error}; try again" if isinstance(error, TransientFailure) else str(error)


def _day(value: datetime | None) -> date | None:
    return value.date() if value else None


def _run(name: str, feed: str, day: date | None) -> bool:
    """Run a step and say what it did. Returns whether nothing was held or refused."""
    done = import_module(f"sampan.ingest.{name}").run(feed, day)
    out.print(f"{name} {feed}: " + ", ".join(f"{count} {what}" for what, count in done.items()))
    return not done.get("held") and not done.get("refused")


def _step(name: str) -> Callable[..., None]:
    def step(feed: Feed, date_: Day = None) -> None:
        get_contract(feed)
        if not _run(name, feed, _day(date_)):
            raise typer.Exit(1)

    step.__doc__ = (import_module(f"sampan.ingest.{name}").__doc__ or name).split("\n\n")[0].replace("\n", " ")
    return step


def _printable(text: str) -> str:
    """Text of a partner as it may go to a terminal: control characters, which could command it, are spelt out."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def _table(title: str, headings: list[str], rows: list[tuple[Any, ...]]) -> None:
    table = Table(title=title, title_justify="left")
    numeric = [bool(rows) and all(isinstance(row[i], int | None) for row in rows) for i in range(len(headings))]
    for heading, right in zip(headings, numeric, strict=True):
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in rows:
        cells = ("" if value is None else f"{value:,}" if isinstance(value, int) else str(value) for value in row)
        table.add_row(*(Text(_printable(cell)) for cell in cells))
    out.print(table)


for _name in ("fetch", "land", "publish"):
    app.command(_name)(_step(_name))


@app.command("load")
def load_(
    feed: Feed,
    date_: Day = None,
    again: Annotated[
        bool, typer.Option("--retry-held", "--again", help="Held batches too, by the contract as it is now.")
    ] = False,
) -> None:
    """load: landed batches into their intake tables, every record with its line."""
    from sampan.ingest import load

    get_contract(feed)
    if again:
        out.print(f"load {feed}: {load.reset_held(feed, _day(date_))} held batches taken up again")
    _step("load")(feed, date_)


@app.command("gate")
def gate_(
    feed: Feed,
    date_: Day = None,
    accept: Annotated[str | None, typer.Option(help="Let the held batches of --date pass, for this reason.")] = None,
) -> None:
    """gate: check loaded batches; rows that break a rule go to quarantine, a batch over its budget is held."""
    from sampan.ingest import gate

    get_contract(feed)
    if accept is None:
        _step("gate")(feed, date_)
        return
    if date_ is None:
        raise PermanentFailure(Problem(Code.GATE_ACCEPT, "--accept goes with --date"))
    count = gate.accept(feed, date_.date(), accept, getpass.getuser())
    out.print(f"gate {feed}: {count} held batches accepted")


@app.command()
def ingest(
    feeds: Annotated[list[str] | None, typer.Argument(help="Feeds; all without any.")] = None, date_: Day = None
) -> None:
    """Fetch, land, load, gate and publish in one go. A feed that fails does not keep the others waiting."""
    chosen = feeds or list(all_contracts())
    for feed in chosen:
        get_contract(feed)
    steps = ("fetch", "land", "load", "gate", "publish")
    went: list[bool] = []
    failed: dict[str, SampanError] = {}
    for feed in chosen:
        try:
            went += [_run(name, feed, _day(date_)) for name in steps]
        except SampanError as error:
            failed[feed] = error
    for feed, error in failed.items():
        print(f"sampan: {feed}: {_said(error)}", file=sys.stderr)
    if not all(went) or any(isinstance(error, PermanentFailure) for error in failed.values()):
        raise typer.Exit(1)
    if failed:
        raise typer.Exit(75)


@app.command()
def deliver(
    feed: Feed,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The delivery.")],
    date_: Annotated[datetime, typer.Option("--date", formats=["%Y-%m-%d"], help="Its business date.")],
) -> None:
    """Put a file into a feed's drop prefix, as its partner would."""
    from sampan.object_store import s3_errors
    from sampan.settings import settings

    key = f"{get_contract(feed).drop_prefix}{date_.date()}/{file.name}"
    with s3_errors(), file.open("rb") as body:
        settings().s3().upload_fileobj(body, settings().drop_bucket, key)
    out.print(f"s3://{settings().drop_bucket}/{key}", soft_wrap=True)


@app.command()
def init(
    again: Annotated[
        bool, typer.Option("--force", "--again", help="Touch every table and view, though nothing has changed.")
    ] = False,
) -> None:
    """Bring the warehouse's roles, schemas and tables to what the contracts ask for."""
    from sampan.warehouse import schema as warehouse

    warehouse.apply_schema(again)
    out.print("The warehouse is ready.")


@app.command()
def status(
    at: Annotated[
        datetime | None, typer.Option("--now", help="Judge lateness at this time, in Hong Kong, instead of now.")
    ] = None,
) -> None:
    """What each feed has delivered, what became of it, which deliveries are late and where, and what is broken now."""
    from sampan.calendar import HONG_KONG
    from sampan.database import connect
    from sampan.ingest import freshness

    moment = at.replace(tzinfo=HONG_KONG) if at else freshness.now()
    owed = freshness.days(at=moment)
    with connect() as connection:
        rows = connection.execute(
            "select feed, count(*)::int, count(*) filter (where state = 'published')::int,"
            " count(*) filter (where state = 'held')::int,"
            " count(*) filter (where state not in ('published', 'held'))::int,"
            " coalesce(sum(rows_published), 0)::bigint, coalesce(sum(rows_quarantined), 0)::bigint,"
            " coalesce(sum(rows_duplicate), 0)::bigint, coalesce(sum(rows_held), 0)::bigint,"
            " max(business_date) filter (where state = 'published') from ops.batch group by feed order by feed"
        ).fetchall()
        broken = connection.execute(
            "select feed, business_date, batch_id, problem from ops.open_problem order by feed, business_date, batch_id"
        ).fetchall()
    headings = ["feed", "batches", "published", "held", "on the way"]
    headings += ["rows published", "rows quarantined", "rows duplicate", "rows held", "latest date"]
    _table("Feeds", headings, rows)
    tallies: dict[str, dict[str, int]] = {}
    for row in owed:
        tally = tallies.setdefault(row["feed"], dict.fromkeys(freshness.STATES, 0))
        tally[row["state"]] += 1
    counts = [(feed, *tally.values()) for feed, tally in tallies.items()]
    _table(f"Deliveries owed until {moment:%F %R}, Hong Kong time", ["feed", *freshness.STATES.values()], counts)
    late = [
        (feed, str(first) if count == 1 else f"{first} to {last}", count, freshness.STATES[state])
        for feed, state, first, last, count in freshness.spans(owed)
    ]
    if late:
        _table("Missing now", ["feed", "dates", "deliveries", "where"], late)
    else:
        out.print("Nothing is late.")
    if broken:
        lines = [(feed, day, batch, str(Problem(**problem_of(problem)))) for feed, day, batch, problem in broken]
        _table("Broken now", ["feed", "date", "batch", "problem"], lines)
    else:
        out.print("Nothing is held.")


def problem_of(stored: dict[str, Any]) -> dict[str, Any]:
    """The fields of a Problem out of a stored one, which may carry who accepted it."""
    return {key: stored[key] for key in Problem.__dataclass_fields__ if key in stored}


# --- marts ------------------------------------------------------------------------------------------------------------


@app.command()
def build(
    step: Annotated[str | None, typer.Argument(help="One step of the build; all without it.")] = None,
    force: Annotated[bool, typer.Option(help="Build although nothing new was published.")] = False,
    full_refresh: Annotated[bool, typer.Option(help="Derive everything anew from all of raw.")] = False,
) -> None:
    """build: derive the marts from what was published, with dbt; nothing is visible to a reader yet."""
    from sampan.marts import build as module

    done = module.run(step, force=force, full_refresh=full_refresh)
    if not done["build_no"]:
        out.print("Nothing new was published; nothing to build.")
        return
    out.print(f"build {done['build_no']}: {done['batches']} new batches, {done['nodes']} nodes run")


@marts_app.command("deprecations")
def marts_deprecations() -> None:
    """Columns that have another name now: the old one is removed in the version after the one named."""
    from sampan.marts.deprecations import deprecations

    rows = [(item.mart, item.column, ", or ".join(item.instead), item.since) for item in deprecations()]
    _table("Deprecated columns", ["mart", "column", "use", "since"], rows)


@release_app.command("run")
def release_run() -> None:
    """Check the marts that were built and, when they pass, show them to the readers, all at once."""
    from sampan.marts import release

    release.gate()
    done = release.run()
    if not done["release_no"]:
        out.print("No build waits for its release.")
        return
    out.print(f"release {done['release_no']}: {done['marts']} marts, {done['rows']:,} rows")


@release_app.command("list")
def release_list() -> None:
    """The releases that are kept, newest first."""
    from sampan.marts import release

    rows = [
        (
            n["release_no"],
            "live" if n["live"] else "",
            n["as_of_date"],
            f"{n['released_at']:%F %R}",
            sum(n["rows"].values()),
        )
        for n in release.kept()
    ]
    _table("Releases", ["release", "", "as of", "released", "rows"], rows)


@release_app.command("show")
def release_show(release_no: Annotated[int, typer.Argument(help="Number of the release.")]) -> None:
    """One release: rows per mart, the batches it took in, what its gate found, when it was shown."""
    from sampan.marts import release

    for key, value in release.show(release_no).items():
        if isinstance(value, dict):
            _table(key, ["", ""], list(value.items()))
        elif isinstance(value, list):
            out.print(f"{key}:", *(f"  {item}" for item in value), sep="\n")
        else:
            out.print(f"{key}: {value}")


@release_app.command("rollback")
def release_rollback(
    release_no: Annotated[int | None, typer.Argument(help="A kept release; the one before without it.")] = None,
) -> None:
    """Show an earlier release again; nothing is rebuilt."""
    from sampan.marts import release

    out.print(f"Readers see release {release.rollback(release_no)['release_no']} now.")


KnownOn = Annotated[
    str, typer.Option("--date", metavar="YYYY-MM-DD[ HH:MM:SS]", help="A day, or a time of it, in Hong Kong.")
]
Delivered = Annotated[
    bool,
    typer.Option("--delivered", help="By business date, whenever the platform published it: for history loaded late."),
]


def _known_on(text: str, delivered: bool) -> tuple[date | datetime, str]:
    """The day or time that was given, and the basis."""
    try:
        known_on = date.fromisoformat(text) if len(text) == 10 else datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a day such as 2026-07-31, or a time such as '2026-07-31 18:00:00'"
        ) from None
    return known_on, "delivered" if delivered else "published"


@as_known_app.command("run")
def as_known_run(day: KnownOn, delivered: Delivered = False) -> None:
    """Make all marts as known on a date, in a schema of their own; the release that is up is not touched."""
    from sampan.marts import as_known

    done = as_known.run(*_known_on(day, delivered))
    out.print(f"{done['schema']}: {done['marts']} marts, {done['rows']:,} rows, from {done['batches']} batches")
    if done["deleted"]:
        out.print(
            f"{done['deleted']} batches known then were deleted since, as their retention asks, and are not in it."
        )


@as_known_app.command("list")
def as_known_list() -> None:
    """The knowledge dates for which there are marts, the newest first."""
    from sampan.marts import as_known

    rows = [
        (
            n["schema"],
            n["known_on"],
            n["basis"],
            f"{n['made_at']:%F %R}" if n["made_at"] else "being made",
            sum(n["rows"].values()),
        )
        for n in as_known.kept()
    ]
    _table("As known on", ["schema", "known on", "basis", "made", "rows"], rows)


@as_known_app.command("drop")
def as_known_drop(day: KnownOn, delivered: Delivered = False) -> None:
    """Drop the marts as known on a date."""
    from sampan.marts import as_known

    schema = as_known.schema_of(*_known_on(day, delivered))
    as_known.drop(schema)
    out.print(f"dropped {schema}")


@app.command("data-docs")
def data_docs(
    folder: Annotated[Path, typer.Argument(help="Where to write the pages.")],
) -> None:
    """Write the results of all gates as static pages, without a value of any row."""
    from sampan.quality import expectations

    out.print(f"wrote {expectations.data_docs(folder)}")


# --- contracts --------------------------------------------------------------------------------------------------------


@contracts_app.command("check")
def contracts_check(
    files: Annotated[list[Path] | None, typer.Argument(help="Contract files; all without any.")] = None,
) -> None:
    """Refuse a wrong contract with file, line and reason, and derived files that are out of date."""
    from sampan.contracts import derive

    problems = [p for file in files for p in check(file)] if files else check_all()
    for problem in problems:
        print(problem)
    stale = [] if files or problems else derive.check()
    for what in stale:
        print(what)
    if problems or stale:
        raise typer.Exit(1)
    out.print(f"{len(files or all_contracts())} contracts are in order.")


@contracts_app.command("list")
def contracts_list() -> None:
    """The feeds, their partners, sources, calendars and policies."""
    rows = [
        (c.feed, c.partner, f"{c.source.kind} {c.source.extension}", f"{c.calendar.days} {c.calendar.due}",
         f"{c.budget:.1%}", c.corrections, c.drift)
        for c in all_contracts().values()
    ]  # fmt: skip
    _table("Feeds", ["feed", "partner", "source", "due", "budget", "corrections", "drift"], rows)


@contracts_app.command("show")
def contracts_show(feed: Feed) -> None:
    """The complete ODCS document of a contract: partner's defaults and short forms expanded."""
    from sampan.contracts import derive

    print(derive.odcs(get_contract(feed)), end="")


@contracts_app.command("derive")
def contracts_derive() -> None:
    """Write the files that are derived from the contracts: dbt sources and staging models, data dictionary, problem codes."""
    from sampan.contracts import derive

    for path in derive.write():
        out.print(f"wrote {path}")


# --- calendar ---------------------------------------------------------------------------------------------------------

ForFeed = Annotated[str | None, typer.Option("--feed", help="Of this feed only; of all without it.")]
OfDay = Annotated[datetime, typer.Argument(formats=["%Y-%m-%d"], help="The business date.")]


@calendar_app.command("show")
def calendar_show(feed: Feed, last: Annotated[int, typer.Option(help="So many of the latest.")] = 15) -> None:
    """The deliveries that a feed owes: when each is due, when it came, its state now."""
    from sampan.ingest import freshness

    get_contract(feed)
    rows = [
        (row["business_date"], f"{row['due_at']:%F %R}", f"{came:%F %R}" if (came := row["first_received_at"]) else "",
         freshness.STATES[row["state"]], row["rows_published"])
        for row in freshness.days(feed)[-last:]
    ]  # fmt: skip
    _table(feed, ["date", "due", "came", "state", "rows"], rows)


@calendar_app.command("close")
def calendar_close(
    day: OfDay,
    reason: Annotated[str, typer.Option(help="Why nothing is due, kept with the closure.")],
    feed: ForFeed = None,
) -> None:
    """Nothing is due of a day: a typhoon, or a partner that was shut."""
    from sampan.ingest import freshness

    freshness.close(day.date(), reason, getpass.getuser(), feed)
    out.print(f"{day.date()}: nothing is due of {feed or 'any feed'}; `sampan calendar reopen` takes it back.")


@calendar_app.command("reopen")
def calendar_reopen(day: OfDay, feed: ForFeed = None) -> None:
    """Take a closure back."""
    from sampan.ingest import freshness

    if not freshness.reopen(day.date(), feed):
        raise PermanentFailure(Problem(Code.CALENDAR_CLOSURE, f"{day.date()} is not closed for {feed or 'all feeds'}"))
    out.print(f"{day.date()} counts again.")


@calendar_app.command("clock")
def calendar_clock(
    at: Annotated[datetime | None, typer.Argument(help="A time in Hong Kong; back to now without it.")] = None,
) -> None:
    """Judge freshness, and ask APIs, as of a time instead of now, for a simulated window or to look back.

    The ledger stays as it is.
    """
    from sampan.calendar import HONG_KONG
    from sampan.ingest import freshness

    freshness.set_clock(at.replace(tzinfo=HONG_KONG) if at else None)
    out.print(f"Freshness is judged, and APIs are asked, as of {freshness.now():%F %R}, Hong Kong time.")


# --- quarantine -------------------------------------------------------------------------------------------------------

Ids = Annotated[list[int] | None, typer.Argument(help="Quarantine ids.")]


@quarantine_app.command("list")
def quarantine_list(
    feed: Annotated[str | None, typer.Argument(help="A feed; all without it.")] = None,
) -> None:
    """How many rows are in quarantine, by feed, state and rule."""
    from sampan.ingest import quarantine

    if feed:
        get_contract(feed)
    rows = [row for row in quarantine.counts() if feed in (None, row[0])]
    _table("Quarantine (a row counts once for each rule)", ["feed", "state", "rule", "rows"], rows)


@quarantine_app.command("show")
def quarantine_show(
    feed: Feed,
    ids: Ids = None,
    date_: Day = None,
    limit: Annotated[int, typer.Option(help="At most so many rows.")] = 20,
    csv: Annotated[bool, typer.Option("--csv", help="As CSV to correct and replay.")] = False,
) -> None:
    """Rows in quarantine: file, line, each broken rule with column and value, and the record."""
    from sampan.ingest import quarantine

    most = 1_000_000 if csv else limit
    chosen = quarantine.entries(feed, ids or (), _day(date_), limit=most)
    if csv:
        if len(chosen) == most:
            print(f"sampan: the first {most:,} rows; there may be more", file=sys.stderr)
        print(quarantine.export(get_contract(feed), chosen), end="")
        return
    for entry in chosen:
        place = f" {entry.file}:{entry.line} ({entry.business_date})"
        out.print(Text(str(entry.quarantine_id), "bold").append(_printable(place), "not bold"))
        for column, rule, value in entry.details():
            where = f"{column} = {value!r}: " if column else ""
            out.print(f"    {where}{rule}", markup=False, highlight=False)
        out.print(f"    {_printable(entry.record)}", markup=False, highlight=False)
    out.print(f"{len(chosen)} rows shown.")


@quarantine_app.command("replay")
def quarantine_replay(
    feed: Feed,
    ids: Ids = None,
    file: Annotated[Path | None, typer.Option(help="Corrected rows, as CSV from `show --csv`.")] = None,
) -> None:
    """Send rows through the gate again, as they are or as corrected in a file."""
    from sampan.ingest import quarantine

    done = quarantine.replay(feed, ids or (), file)
    out.print(", ".join(f"{count} {what}" for what, count in done.items()))


@quarantine_app.command("discard")
def quarantine_discard(
    feed: Feed, ids: Ids, reason: Annotated[str, typer.Option(help="Why these rows are given up.")]
) -> None:
    """Give rows up for good."""
    from sampan.ingest import quarantine

    out.print(f"{quarantine.discard(feed, ids or (), reason, getpass.getuser())} rows discarded.")


# --- identity ---------------------------------------------------------------------------------------------------------

Proposal = Annotated[int, typer.Argument(help="Number of the proposal, from `identity review list`.")]
Reason = Annotated[str, typer.Option(help="What shows it; kept with the decision.")]


@review_app.command("list")
def identity_review_list(
    state: Annotated[str, typer.Option(help="open, accepted, rejected or withdrawn.")] = "open",
    limit: Annotated[int, typer.Option(help="At most so many.")] = 50,
) -> None:
    """Links that are likely but not certain, the likeliest first."""
    from sampan.identity import resolve as identity

    rows = identity.reviews(state, limit)
    headings = ["id", "source", "key", "names there", "number", "names of the number", "probability", "evidence", "why"]
    _table(f"Proposals ({state})", headings, [(str(row[0]), *row[1:]) for row in rows])


@review_app.command("show")
def identity_review_show(review_id: Proposal) -> None:
    """One proposal: both sides, what speaks for it, the other proposals and what was decided before."""
    from sampan.identity import resolve as identity

    found = identity.review(review_id)
    for heading in ("source", "source_key", "names", "number", "number_names", "state", "reason", "evidence"):
        value = found[heading]
        text = " / ".join(value) if isinstance(value, list) else value
        out.print(f"{heading.replace('_', ' ')}: {text}", markup=False, highlight=False)
    out.print(f"probability: {found['probability']:.3f}")
    for name, value in found["details"].items():
        out.print(f"{name}: {value}", markup=False, highlight=False)
    others = [
        (str(row["review_id"]), row["number"], row["state"], f"{row['probability']:.3f}") for row in found["others"]
    ]
    _table("Other proposals", ["id", "number", "state", "probability"], others)
    decided = [(r["number"], r["verdict"], r["reason"], r["decided_by"], r["decided_at"]) for r in found["decisions"]]
    _table("Decisions", ["number", "verdict", "reason", "by", "at"], decided)


@review_app.command("accept")
def identity_review_accept(review_id: Proposal, reason: Reason) -> None:
    """The two are one enterprise. Holds from the next build on, and in every later one."""
    from sampan.identity import resolve as identity

    identity.accept(review_id, reason, getpass.getuser())
    out.print(f"Proposal {review_id} accepted; `sampan build --force` or the next refresh takes it in.")


@review_app.command("reject")
def identity_review_reject(review_id: Proposal, reason: Reason) -> None:
    """The two are not one enterprise; that is never proposed again."""
    from sampan.identity import resolve as identity

    identity.reject(review_id, reason, getpass.getuser())
    out.print(f"Proposal {review_id} rejected; `sampan build --force` or the next refresh takes it in.")


@identity_app.command("decide")
def identity_decide(
    source: Annotated[str, typer.Argument(help="Kind of identifier: shop, certificate, mission or number.")],
    key: Annotated[str, typer.Argument(help="The identifier, as in ops.identity_link.")],
    number: Annotated[str, typer.Argument(help="Registration number of the enterprise.")],
    verdict: Annotated[str, typer.Argument(help="same or different.")],
    reason: Reason,
) -> None:
    """Say who an entity is or is not, proposed or not: undoes a wrong link, makes two numbers one enterprise."""
    from sampan.identity import resolve as identity

    identity.decide(source, key, number, verdict, reason, getpass.getuser())
    out.print("Decided; `sampan build --force` or the next refresh takes it in.")


# --- consents ---------------------------------------------------------------------------------------------------------

Consent = Annotated[str, typer.Argument(help="A consent: CS and ten digits.")]


@consent_app.command("show")
def consent_show(consent_id: Consent) -> None:
    """One consent: to which bank, for what, until when, and for which kinds of data it is live now."""
    from sampan import consent

    for key, value in consent.describe(consent_id).items():
        text = ", ".join(value) or "none" if isinstance(value, list) else value
        out.print(f"{key}: {text}", markup=False, highlight=False)


@consent_app.command("revoke")
def consent_revoke(
    consent_id: Consent,
    reason: Annotated[str, typer.Option(help="Who asked for it, and how; kept with the revocation.")],
) -> None:
    """Revoke a consent now: the bank's next query shows nothing of it. Nothing brings it back but a new consent."""
    from sampan import consent

    new = consent.revoke(consent_id, reason, getpass.getuser())
    out.print(f"Revoked {consent_id}." if new else f"{consent_id} was revoked before.")


# --- retention --------------------------------------------------------------------------------------------------------


@retention_app.command("run")
def retention_run(
    most: Annotated[
        bool, typer.Option("--allow-mass-delete", "--most", help="Although most batches of a feed would go.")
    ] = False,
) -> None:
    """Delete what is past its contract's retention: landing, drop, raw, quarantine, what dbt keeps, old releases."""
    from sampan.governance import retention

    out.print(
        "deleted: " + ", ".join(f"{count} {what}" for what, count in retention.run(allow_mass_delete=most).items())
    )


@retention_app.command("merge", hidden=True)
@partitions_app.command("compact")
def partitions_compact() -> None:
    """Merge the partitions of raw of every closed month into one each; readers notice nothing."""
    from sampan.governance import compaction

    done = compaction.compact()
    out.print(f"merged {done['before']} partitions of closed months into {done['after']}")


@retention_app.command("list")
def retention_list(limit: Annotated[int, typer.Option(help="At most so many.")] = 50) -> None:
    """The newest deletions: what, why, when it was found to be gone."""
    from sampan.governance import retention

    headings = ["kind", "of", "why", "SHA-256", "objects", "rows", "found absent at"]
    _table("Deletions", headings, retention.proofs(limit))


# --- transfers --------------------------------------------------------------------------------------------------------


@transfer_app.command("contract")
def transfer_contract(
    contract_no: Annotated[str, typer.Argument(help="Number of the standard contract.")],
    recipient: Annotated[str, typer.Option(help="With whom.")],
    city: Annotated[str, typer.Option(help="Where the recipient is, by its English name.")],
    purpose: Annotated[str, typer.Option(help="What for.")],
    mart: Annotated[list[str], typer.Option(help="A mart that it covers; once for each.")],
    start: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="Day on which it takes effect.")],
    end: Annotated[datetime, typer.Option("--until", formats=["%Y-%m-%d"], help="Last day.")],
    assessment: Annotated[str | None, typer.Option(help="Number of the impact assessment.")] = None,
    assessed_on: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Its day.")] = None,
    filed_on: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="When it was filed.")] = None,
    bank: Annotated[str | None, typer.Option(help="The bank whose consents count, if the recipient is one.")] = None,
) -> None:
    """Enter a contract under which data may leave. What changes is a new contract; `filed` says later when it was filed."""
    from sampan.governance import transfer

    agreement = transfer.TransferAgreement(
        contract_no, recipient, city, bank, purpose, mart, start.date(), end.date(), assessment, _day(assessed_on),
        _day(filed_on),
    )  # fmt: skip
    transfer.register_agreement(agreement, getpass.getuser())
    out.print(f"Contract {contract_no} entered.")


@transfer_app.command("filed")
def transfer_filed(
    contract_no: Annotated[str, typer.Argument(help="Number of the standard contract.")],
    on: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="Day on which it was filed.")],
) -> None:
    """Say when a contract was filed: once, and not ahead."""
    from sampan.governance import transfer

    new = transfer.record_filing(contract_no, on.date())
    out.print(f"Contract {contract_no} filed on {on:%Y-%m-%d}." if new else f"{contract_no}: said before.")


@transfer_app.command("list")
def transfer_list(limit: Annotated[int, typer.Option(help="At most so many.")] = 50) -> None:
    """The register: what left, to whom, under which contract."""
    from sampan.governance import transfer

    headings = ["id", "mart", "release", "recipient", "city", "contract", "rows", "SHA-256", "at"]
    _table("Transfers", headings, transfer.register(limit))


@app.command()
def share(
    mart: Annotated[str, typer.Argument(help="A published table, or mart_credit_features.")],
    to: Annotated[str, typer.Option(help="The recipient, as the contract names it.")],
    contract: Annotated[str, typer.Option(help="Number of the contract.")],
    into: Annotated[str, typer.Option(help="A new file, or s3://bucket/key.")],
) -> None:
    """Write a mart as CSV for a recipient, if a valid contract covers it, and enter it into the register."""
    from sampan.governance import transfer

    done = transfer.share(mart, to, contract, into, getpass.getuser())
    out.print(
        f"transfer {done['transfer_id']}: {done['rows']:,} rows, SHA-256 {done['content_sha256']}", soft_wrap=True
    )
