"""Where the time of small deliveries goes, as in the backfill of a year: `python -m tests.bench.small_deliveries`.

Every feed whose partner hands files over gets a small delivery for each of some dates; then each step runs once for each
feed, as in a backfill. Time is split by what it is spent in, without what that calls in turn: connections and statements of
PostgreSQL, requests of the object store, Great Expectations, and the rest, which is Python.
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]

import psycopg  # noqa: E402

from infra.local.postgres import EmbeddedPostgres  # noqa: E402
from infra.local.s3 import EmbeddedS3  # noqa: E402
from tests.bench.gated_load import environment, keep  # noqa: E402

BEGIN, END = "<!-- small deliveries -->", "<!-- end of small deliveries -->"
STEPS = ("fetch", "land", "load", "gate", "publish", "lake")
CONNECT, STATEMENTS, STORE, CHECKS, REST = "connecting", "statements", "object store", "Great Expectations", "Python"
# Seconds at most for a batch, from fetch to publish.
BAR = 0.12
ROWS = 20


@dataclass
class Clock:
    """Seconds and calls by (step, kind). Time counts for the innermost kind."""

    seconds: Counter[tuple[str, str]] = field(default_factory=Counter)
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    step: str = ""
    _kinds: list[str] = field(default_factory=lambda: [REST])
    _since: float = field(default_factory=time.perf_counter)

    @contextmanager
    def within(self, kind: str) -> Iterator[None]:
        """Time inside is of this kind."""
        self.turn()
        self._kinds.append(kind)
        self.calls[self.step, kind] += 1
        try:
            yield
        finally:
            self.turn()
            self._kinds.pop()

    def turn(self) -> None:
        """Count the time since the last turn."""
        now = time.perf_counter()
        self.seconds[self.step, self._kinds[-1]] += now - self._since
        self._since = now

    def watch(self, owner: Any, name: str, kind: str) -> None:
        """Count the calls of a function, and the time in them."""
        plain: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(plain)
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.within(kind):
                return plain(*arguments, **named)

        setattr(owner, name, timed)


def watched() -> Clock:
    """A clock that counts what the libraries do from now on."""
    import botocore.client
    from sampan.quality import expectations

    clock = Clock()
    clock.watch(psycopg, "connect", CONNECT)
    clock.watch(psycopg.Cursor, "execute", STATEMENTS)
    clock.watch(psycopg.Cursor, "executemany", STATEMENTS)
    clock.watch(psycopg.Copy, "__exit__", STATEMENTS)
    clock.watch(psycopg.Copy, "write", STATEMENTS)
    clock.watch(botocore.client.BaseClient, "_make_api_call", STORE)
    clock.watch(expectations, "validate", CHECKS)
    return clock


def deliver(days: int) -> tuple[list[str], int]:
    """Put a delivery of each feed and date into the drop bucket. Returns the feeds, and how many deliveries there are."""
    from sampan.contracts.registry import all_contracts
    from sampan.database import connect
    from sampan.ingest import freshness
    from sampan.settings import settings

    from tests.factory import encode, rows

    with connect() as connection:
        today = freshness.today(connection)
    dates = [today - timedelta(days=3 + number) for number in range(days)]
    feeds = [feed for feed, contract in all_contracts().items() if contract.source.kind == "s3"]
    for feed in feeds:
        contract = all_contracts()[feed]
        client = settings().s3(contract.partner)
        for number, day in enumerate(dates):
            body = encode(contract, rows(feed, ROWS, day=dates[-1], seed=number))
            client.put_object(
                Bucket="drop", Key=f"{contract.drop_prefix}{day}/{feed}.{contract.source.extension}", Body=body
            )
    return feeds, len(feeds) * len(dates)


def ingested(feeds: list[str], clock: Clock) -> Counter[str]:
    """Run every step for every feed. Returns how many batches were published and held."""
    from sampan.ingest import steps

    done: Counter[str] = Counter()
    for feed in feeds:
        for name in STEPS:
            clock.turn()
            clock.step = name
            found = steps.STEPS[name].run(feed)
            clock.turn()
            if name == "publish":
                done["published"] += found["batches"]
            done["held"] += found.get("held", 0)
    return done


def report(clock: Clock, batches: int) -> str:
    """Milliseconds of a batch by step and kind, as a Markdown section."""
    kinds = (CONNECT, STATEMENTS, STORE, CHECKS, REST)
    whole = sum(seconds for (step, _), seconds in clock.seconds.items() if step != "lake")
    lines = [
        BEGIN,
        f"{batches:,} batches of {ROWS} rows, {os.cpu_count()} cores, Python {platform.python_version()}, PostgreSQL 18."
        " Milliseconds of a batch; in brackets calls of a batch.",
        "",
        f"| step | {' | '.join(kinds)} | all |",
        "|---|" + "---:|" * (len(kinds) + 1),
    ]
    for step in STEPS:
        lines.append(_line(step, [(clock.seconds[step, kind], clock.calls[step, kind]) for kind in kinds], batches))
    sums = [
        (sum(clock.seconds[step, kind] for step in STEPS), sum(clock.calls[step, kind] for step in STEPS))
        for kind in kinds
    ]
    lines += [
        _line("all", sums, batches),
        "",
        f"A batch takes **{whole / batches:.3f}** s from fetch to publish (bar: at most {BAR}), and"
        f" {sum(clock.seconds.values()) / batches:.3f} s until it is in the lake.",
    ]
    return "\n".join([*lines, END])


def _line(name: str, found: list[tuple[float, int]], batches: int) -> str:
    cells = [
        f"{1000 * seconds / batches:.1f}" + (f" ({calls / batches:.1f})" if calls else "") for seconds, calls in found
    ]
    return f"| {name} | {' | '.join(cells)} | {1000 * sum(seconds for seconds, _ in found) / batches:.1f} |"


def main() -> None:
    """Run the benchmark; print the report and, on request, keep it in a Markdown file between its marks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=150, help="dates for which each feed delivers")
    parser.add_argument("--write", type=Path, help="Markdown file that holds the report")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        with EmbeddedPostgres(work / "postgres") as postgres, EmbeddedS3(work / "s3") as s3:
            postgres.bootstrap()
            environment(postgres, s3, work / "state")
            from sampan.warehouse import schema as warehouse

            warehouse.apply_schema()
            feeds, batches = deliver(options.days)
            clock = watched()
            done = ingested(feeds, clock)
    if done["published"] != batches:
        raise SystemExit(f"{batches} deliveries, but {dict(done)}")
    text = report(clock, batches)
    print(text)
    if options.write:
        keep(options.write, text, BEGIN, END)


if __name__ == "__main__":
    main()
