"""Command line of the simulator: `python -m infra.simulator deliver | serve | lines`."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from contextlib import ExitStack
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from infra.simulator import deliver as delivering
from infra.simulator import faults as fault
from infra.simulator.serve import FAULTS, Behaviour, Server

app = typer.Typer(help="Simulated partners of Sampan. Everything they make is synthetic.", no_args_is_help=True)
SEED, START = 20260706, "2026-07-06"


def _progress(day: date, count: int) -> None:
    typer.echo(f"\r  {day}: {count} deliveries ", nl=False)


@app.command()
def deliver(
    seed: Annotated[int, typer.Option(help="Same seed, same deliveries, byte for byte.")] = SEED,
    smes: Annotated[int, typer.Option(help="Enterprises.")] = 2000,
    start: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="First business date.")] = START,  # type: ignore[assignment]
    days: Annotated[int, typer.Option(help="Business dates.")] = 30,
    faults: Annotated[str, typer.Option(help="none, default, or rates such as dirty=0.01,late=0.1.")] = "default",
    feeds: Annotated[str, typer.Option(help="Only these feeds, separated by commas.")] = "",
    out: Annotated[str, typer.Option(help="A folder, or s3 for the drop bucket.")] = "s3",
    again: Annotated[bool, typer.Option(help="Deliver even when the same was delivered before.")] = False,
) -> None:
    """Deliver a window of business dates and record what was planted in the folder truth."""
    order = {"seed": seed, "smes": smes, "start": str(start.date()), "days": days, "faults": faults, "feeds": feeds}
    if out == "s3":
        from sampan.settings import settings

        target: Path | delivering.Bucket = delivering.Bucket(settings().s3, settings().drop_bucket)
        truth = settings().state / "truth"
    else:
        target, truth = Path(out), Path(out) / "truth"
    done = truth / "order.json"
    if not again and done.exists() and json.loads(done.read_text()) == order:
        typer.echo("delivered before, nothing to do (--again delivers once more)")
        return
    done.unlink(missing_ok=True)
    begun = time.monotonic()
    outcome = delivering.run(
        target, seed=seed, smes=smes, start=start.date(), days=days, faults=fault.parse(faults),
        feeds=[name for name in feeds.split(",") if name] or None, truth=truth,
        told=_progress if sys.stdout.isatty() else None,
    )  # fmt: skip
    done.write_text(json.dumps(order) + "\n")
    typer.echo(
        f"{outcome.objects} deliveries of {days} business dates in {time.monotonic() - begun:.1f} s; truth in {truth}"
    )


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="Port on the loopback interface; 0 takes a free one.")] = 0,
    seed: Annotated[int, typer.Option()] = SEED,
    smes: Annotated[int, typer.Option(help="Enterprises.")] = 2000,
    start: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="First business date.")] = START,  # type: ignore[assignment]
    days: Annotated[int, typer.Option(help="Business dates.")] = 30,
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
    server = Server(
        Behaviour(
            seed,
            fault_mode,
            times,
            max_pagesize,
            datasize,
            publication,
            smes=smes,
            start=start.date(),
            days=days,
            delivered=delivered,
        ),
        port,
    )
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
