"""Commands of the ingest: its steps, all of them in one go, and what each feed has delivered."""

from __future__ import annotations

import getpass
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from sampan import progress
from sampan.cli.arguments import Day, Feed, Feeds, day_of
from sampan.cli.output import message, message_of, out
from sampan.errors import Code, PermanentFailure, Problem, SampanError

commands = typer.Typer()
DAILY, STEP, DECIDE = "Day by day", "One step at a time", "Decide"


@commands.command(rich_help_panel=DAILY)
def ingest(
    feeds: Feeds = None,
    date_: Day = None,
    retry_held: Annotated[
        bool, typer.Option("--retry-held", help="Held batches too, against the contract as it is now.")
    ] = False,
) -> None:
    """Run fetch, land, load, gate, publish and lake. A feed that fails does not stop the others.

    Example: sampan ingest customs_declarations platform_orders
    """
    from sampan.contracts.registry import feed_names
    from sampan.ingest import load
    from sampan.ingest.steps import STEPS

    chosen = feeds or feed_names()
    for feed in chosen:
        _require(feed)
    for feed in chosen if retry_held else ():
        out.print(f"load {feed}: {load.reset_held(feed, day_of(date_))} held batches reset")
    clean: list[bool] = []
    failed: dict[str, SampanError] = {}
    unforeseen: Exception | None = None
    for done, feed in enumerate(chosen):
        try:
            for name in STEPS:
                progress.report(f"{name} {feed}", done, len(chosen))
                clean.append(_run(name, feed, day_of(date_)))
        except SampanError as error:
            failed[feed] = error
        except Exception as error:  # noqa: BLE001 - the next feed has its turn
            message(f"{feed}: {type(error).__name__}, an error that was not foreseen")
            unforeseen = unforeseen or error
    for feed, failure in failed.items():
        message(f"{feed}: {message_of(failure)}")
    if unforeseen is not None:
        raise unforeseen
    if not all(clean) or any(isinstance(failure, PermanentFailure) for failure in failed.values()):
        raise typer.Exit(1)
    if failed:
        raise typer.Exit(75)


@commands.command(rich_help_panel=DAILY)
def deliver(
    feed: Feed,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The file to deliver.")],
    date_: Annotated[datetime, typer.Option("--date", formats=["%Y-%m-%d"], help="Its business date.")],
) -> None:
    """Upload a file to a feed's drop prefix, as its partner would.

    Example: sampan deliver customs_declarations declarations.csv.gz --date 2026-07-06
    """
    from sampan.contracts.registry import get_contract
    from sampan.ingest.markers import marker
    from sampan.object_store import s3_errors
    from sampan.settings import settings

    contract = get_contract(feed)
    key = f"{contract.drop_prefix}{date_.date()}/{file.name}"
    with s3_errors(), file.open("rb") as body:
        settings().s3(contract.partner).upload_fileobj(body, settings().drop_bucket, key)
    out.print(f"s3://{settings().drop_bucket}/{key}", soft_wrap=True)
    kind = marker(file.name, file.stat().st_size, contract.source.extension)
    if kind is not None:
        message(f"by its name it is {kind}, not a delivery: it will be ignored")


@commands.command("fetch", rich_help_panel=STEP)
def fetch_(feed: Feed, date_: Day = None) -> None:
    """Ask what a partner has ready: list its drop prefix, or call its API and put the answer there.

    Example: sampan fetch hkma_exchange_rates
    """
    _run_one("fetch", feed, date_)


@commands.command("land", rich_help_panel=STEP)
def land_(feed: Feed, date_: Day = None) -> None:
    """Copy new files from the drop prefix to the landing bucket, unchanged, and register them as batches.

    Example: sampan land customs_declarations
    """
    _run_one("land", feed, date_)


@commands.command("load", rich_help_panel=STEP)
def load_(
    feed: Feed,
    date_: Day = None,
    retry_held: Annotated[
        bool, typer.Option("--retry-held", help="Also reload held batches, against the contract as it is now.")
    ] = False,
) -> None:
    """Load landed batches into their intake tables.

    Example: sampan load customs_declarations --date 2026-07-06 --retry-held
    """
    _require(feed)
    if retry_held:
        from sampan.ingest import load

        out.print(f"load {feed}: {load.reset_held(feed, day_of(date_))} held batches reset")
    _run_one("load", feed, date_)


@commands.command("gate", rich_help_panel=STEP)
def gate_(
    feed: Feed,
    date_: Day = None,
    accept: Annotated[
        str | None, typer.Option(help="Accept and publish the held batches of --date; the reason is kept with them.")
    ] = None,
) -> None:
    """Check loaded batches: rows that break a rule go to quarantine, a batch with too many of them is held.

    Example: sampan gate customs_declarations --date 2026-07-06 --accept "known fault, agreed by phone"
    """
    _require(feed)
    if accept is None:
        _run_one("gate", feed, date_)
        return
    if date_ is None:
        raise PermanentFailure(Problem(Code.GATE_ACCEPT, "--accept needs --date: say which day's batches to accept"))
    from sampan.ingest import gate

    count = gate.accept(feed, date_.date(), accept, getpass.getuser())
    out.print(f"gate {feed}: {count} held batches accepted")
    _run_one("publish", feed, date_)
    _run_one("lake", feed, date_)


@commands.command("publish", rich_help_panel=STEP)
def publish_(feed: Feed, date_: Day = None) -> None:
    """Publish gated batches: their rows become part of raw.

    Example: sampan publish customs_declarations
    """
    _run_one("publish", feed, date_)


@commands.command("reload", rich_help_panel=DECIDE)
def reload_(
    feed: Feed,
    first: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First business date. Default: all.")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last business date. Default: all.")
    ] = None,
) -> None:
    """Fill columns that the contract has gained from published deliveries that already had them.

    Example: sampan reload customs_declarations --from 2026-07-01 --to 2026-07-31
    """
    from sampan.ingest import reload

    done = reload.run(feed, day_of(first), day_of(last))
    out.print(f"reload {feed}: " + ", ".join(f"{count} {what}" for what, count in done.items()))


@commands.command("withdraw", rich_help_panel=DECIDE)
def withdraw_(
    feed: Feed,
    reason: Annotated[str, typer.Option(help="Why; it is kept with your name.")],
    batch: Annotated[int | None, typer.Option(help="Number of the batch.")] = None,
    date_: Day = None,
    file: Annotated[str | None, typer.Option(help="The partner's name of the file.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Let what was withdrawn count again.")] = False,
) -> None:
    """Take published batches out of what counts: the next build is as if they had never come.

    Example: sampan withdraw customs_declarations --batch 812 --reason "declarations of another month, by phone"
    """
    from sampan.ingest import withdraw

    chosen = withdraw.Chosen(batch, day_of(date_), file)
    if not str(chosen):
        raise typer.BadParameter("say which: --batch, --date, --file, or --date and --file")
    done = (withdraw.undo if undo else withdraw.run)(feed, chosen, reason, getpass.getuser())
    one = done["batches"] == 1
    what = ("counts again" if one else "count again") if undo else f"{'is' if one else 'are'} withdrawn"
    batches = "1 batch" if one else f"{done['batches']} batches"
    out.print(f"{batches} of {feed} with {done['rows']:,} rows {what}, from the next build on")


def _require(feed: str) -> None:
    from sampan.contracts.registry import get_contract

    get_contract(feed)


def _run_one(name: str, feed: str, date_: datetime | None) -> None:
    """Run one step of one feed; exit with 1 when something was held or refused."""
    _require(feed)
    if not _run(name, feed, day_of(date_)):
        raise typer.Exit(1)


def _run(name: str, feed: str, day: date | None) -> bool:
    """Run a step and print what it did. Returns False when something was held or refused."""
    from sampan.ingest.steps import STEPS

    done = STEPS[name].run(feed, day)
    out.print(f"{name} {feed}: " + ", ".join(f"{count} {what}" for what, count in done.items()))
    return not done.get("held") and not done.get("refused")
