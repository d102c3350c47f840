"""Command line of the simulator: `python -m infra.simulator deliver | serve | lines`."""

from __future__ import annotations

import hashlib
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer
from sampan.calendar import HONG_KONG

from infra.simulator import deliver as delivering
from infra.simulator import faults as fault
from infra.simulator.orders import FILE, Order, saved
from infra.simulator.serve import FAULTS, Behaviour, Server

app = typer.Typer(help="Simulated partners of Sampan. Everything they make is synthetic.", no_args_is_help=True)
SEED, START = 20260706, "2026-07-06"


def _progress(day: date, count: int) -> None:
    typer.echo(f"\r  {day}: {count} deliveries ", nl=False)


Seed = Annotated[int, typer.Option(help="Same seed, same world, byte for byte.")]
Smes = Annotated[int, typer.Option(help="Enterprises.")]
Start = Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="First business date with a delivery of its own.")]
Days = Annotated[int, typer.Option(help="Business dates from then on.")]
History = Annotated[
    datetime | None, typer.Option("--history", formats=["%Y-%m-%d"], help="First day of a history before them, if any.")
]
Months = Annotated[int, typer.Option("--history-months", help="Months that a delivery of the history covers.")]
Volume = Annotated[float, typer.Option(help="Scale of what is traded, ordered and insured.")]


def _order(
    seed: int, smes: int, start: datetime, days: int, history: datetime | None, months: int, volume: float
) -> Order:
    return Order(seed, smes, start.date(), days, history.date() if history else None, months, volume)


@app.command()
def deliver(
    seed: Seed = SEED,
    smes: Smes = 2000,
    start: Start = START,  # type: ignore[assignment]
    days: Days = 30,
    history: History = None,
    months: Months = 3,
    volume: Volume = 1.0,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only business dates from this one on.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d %H:%M"], help="Only what is sent until then, Hong Kong time.")
    ] = None,
    faults: Annotated[str, typer.Option(help="none, default, or rates such as dirty=0.01,late=0.1.")] = "default",
    feeds: Annotated[str, typer.Option(help="Only these feeds, separated by commas.")] = "",
    out: Annotated[str, typer.Option(help="A folder, or s3 for the drop bucket.")] = "s3",
    again: Annotated[bool, typer.Option(help="Deliver even when the same was delivered before.")] = False,
) -> None:
    """Deliver a part of a world, or all of it, and record what was planted in the folder truth."""
    order = replace(
        _order(seed, smes, start, days, history, months, volume), faults=faults, feeds=feeds,
        until=until.replace(tzinfo=HONG_KONG) if until else None,
    )  # fmt: skip
    target, truth = _target(out)
    before = saved(truth)
    # What goes on from the same order holds all that the order asks for.
    if not again and since is None and before and before.is_of_the_world_of(order) and before.days >= order.days:
        typer.echo("delivered before, nothing to do (--again delivers once more)")
        return
    (truth / FILE).unlink(missing_ok=True)
    begun = time.monotonic()
    outcome = delivering.deliver(
        target, order.world(since=since.date() if since else None), faults=fault.parse(faults), feeds=order.feed_names,
        truth=truth, sent_until=order.until, told=_progress if sys.stdout.isatty() else None,
    )  # fmt: skip
    order.save(truth)
    typer.echo(f"{outcome.objects} deliveries in {time.monotonic() - begun:.1f} s; truth in {truth}")


@app.command(name="next")
def next_(
    until: Annotated[datetime, typer.Argument(formats=["%Y-%m-%d %H:%M"], help="Deliver what is sent until then.")],
    out: Annotated[str, typer.Option(help="A folder, or s3 for the drop bucket.")] = "s3",
) -> None:
    """Let the world that was delivered last go on by one business date."""
    target, truth = _target(out)
    order, outcome = delivering.next_day(target, truth, until.replace(tzinfo=HONG_KONG))
    typer.echo(f"{outcome.objects} deliveries, of business dates until {order.last}; truth in {truth}")


def _target(out: str) -> tuple[Path | delivering.Bucket, Path]:
    """Where deliveries go, and the folder of truth."""
    if out != "s3":
        return Path(out), Path(out) / "truth"
    from sampan.settings import settings

    return delivering.Bucket(settings().s3, settings().drop_bucket), settings().state / "truth"


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="Port on the loopback interface; 0 takes a free one.")] = 0,
    seed: Seed = SEED,
    smes: Smes = 2000,
    start: Start = START,  # type: ignore[assignment]
    days: Days = 30,
    history: History = None,
    months: Months = 3,
    volume: Volume = 1.0,
    fault_mode: Annotated[str, typer.Option("--fault", help=f"One of {', '.join(FAULTS)}.")] = "none",
    times: Annotated[int, typer.Option(help="Only the first so many requests fail; 0 for all.")] = 0,
    max_pagesize: Annotated[int, typer.Option(help="Largest page the server gives.")] = 1000,
    datasize: Annotated[str, typer.Option(help="page or whole: what result.datasize counts.")] = "page",
    publication: Annotated[str, typer.Option(help="daily, or monthly as in reality.")] = "daily",
    delivered: Annotated[
        Path | None, typer.Option(help="Folder truth of the deliveries whose world the answers are about.")
    ] = None,
) -> None:
    """Answer as the open-data APIs do that feeds are asked from."""
    if fault_mode not in FAULTS or datasize not in ("page", "whole") or publication not in ("daily", "monthly"):
        raise typer.BadParameter("unknown fault, datasize or publication")
    order = _order(seed, smes, start, days, history, months, volume)
    behaviour = Behaviour(
        seed, fault_mode, times, max_pagesize, datasize, publication, order=order, delivered=delivered
    )  # fmt: skip
    server = Server(behaviour, port)
    typer.echo(f"synthetic open data at {server.url.removesuffix('/public')}")
    server.forever()


@app.command()
def lines(
    out: Annotated[Path, typer.Option(help="File to write; the ending .gz compresses.")],
    rows: Annotated[int, typer.Option(help="Declaration lines.")] = 5_000_000,
    seed: Annotated[int, typer.Option()] = SEED,
    day: Annotated[
        datetime, typer.Option(formats=["%Y-%m-%d"], help="Business date on which all were lodged.")
    ] = START,  # type: ignore[assignment]
) -> None:
    """Write one clean delivery of customs_declarations of any size, for measurements."""
    from isal import igzip

    from infra.simulator.partners.customs import ORDER, bench_lines

    begun, digest = time.monotonic(), hashlib.sha256()
    with ExitStack() as stack:
        plain = stack.enter_context(open(out, "wb", buffering=1 << 20))
        file = (
            stack.enter_context(igzip.IGzipFile(fileobj=plain, mode="wb", compresslevel=1))
            if out.suffix == ".gz"
            else plain
        )
        file.write((",".join(ORDER) + "\n").encode())
        for frame in bench_lines(seed, rows, day.date()):
            text = frame.write_csv(include_header=False, float_precision=2).encode()
            digest.update(text)
            file.write(text)
    seconds, size = time.monotonic() - begun, out.stat().st_size
    typer.echo(f"{rows} lines, {size} bytes in {seconds:.1f} s; rows' SHA-256 {digest.hexdigest()}")


if __name__ == "__main__":
    app()
