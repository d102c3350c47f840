"""A year of Hong Kong's SMEs, from what partners deliver to a release that analysts read: `python -m tests.bench.year`.

For each number of enterprises: a simulated history in deliveries of a month is fetched, landed, loaded, gated, published,
built, checked and released; the peer is plain COPY of the same rows as CSV into the stored columns. Then the day after
comes, and analysts ask the documented queries, eight at a time, before that refresh and during it. All rows are synthetic.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]

import polars as pl  # noqa: E402
import psutil  # noqa: E402
import psycopg  # noqa: E402
from psycopg import sql  # noqa: E402

from infra.local.postgres import ADMIN, SUPERUSER, EmbeddedPostgres  # noqa: E402
from infra.local.s3 import EmbeddedS3  # noqa: E402
from tests.bench.gated_load import environment, keep, settle  # noqa: E402

BEGIN, END = "<!-- year -->", "<!-- end of year -->"
SEED = 20260706
# 360,000 enterprises declare 20 million lines a year, as they do in Hong Kong; with this, they sell as many order lines.
ORDERS = 0.32
# Statistics do not grow with enterprises, and cost the simulator much.
WITHOUT = re.compile("^(csd|comtrade)_")
LAST = date(2026, 7, 31)
CLIENTS, ASKING_SECONDS = 8, 30.0
MIB = 1 << 20
# At most: of the whole way against plain COPY, of a day's refresh in seconds, of a query in milliseconds.
BARS = {"year": 3.0, "day": 600.0, "query": 50.0}


@dataclass
class Measured:
    """What was measured of one number of enterprises over some months. Seconds, unless the name says otherwise."""

    smes: int
    months: int
    rows: int = 0
    steps: dict[str, float] = field(default_factory=dict)
    copy: float = 0.0
    day: dict[str, float] = field(default_factory=dict)
    day_rows: int = 0
    query_ms: dict[str, list[float]] = field(default_factory=dict)
    memory_mib: float = 0.0
    bytes_a_row: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """From the drop bucket to the release."""
        return sum(self.steps.values())


@contextmanager
def empty_warehouse(work: Path) -> Iterator[EmbeddedPostgres]:
    """Servers of their own, which the settings of this process name, and an empty warehouse on them."""
    with EmbeddedPostgres(work / "postgres") as postgres, EmbeddedS3(work / "s3") as s3:
        postgres.bootstrap()
        with psycopg.connect(postgres.dsn("postgres", SUPERUSER), autocommit=True) as connection:
            connection.execute(f"grant pg_checkpoint to {ADMIN}")
        environment(postgres, s3, work / "state")
        from sampan.settings import settings
        from sampan.warehouse import schema as warehouse

        settings.cache_clear()
        warehouse.apply_schema()
        yield postgres


def measured(smes: int, months: int, work: Path) -> Measured:
    """Everything about one size, on servers of its own."""
    found = Measured(smes, months)
    with empty_warehouse(work):
        world = World(smes, months, work)
        with world.answering():
            world.deliver(world.last)
            settle()
            with peak_memory() as memory:
                found.steps = refreshed(world.last)
            found.memory_mib = memory()
            found.rows = _rows()
            found.bytes_a_row = _bytes_a_row(found.rows)
            found.copy = _plain_copy(work)
            settle()
            found.query_ms["at rest"] = asked(ASKING_SECONDS)
            world.deliver_next()
            before, stop = found.rows, threading.Event()
            during: list[float] = []
            readers = threading.Thread(target=lambda: during.extend(asked(3600.0, stop)))
            settle()
            readers.start()
            try:
                found.day = refreshed(world.next)
            finally:
                stop.set()
                readers.join()
            found.query_ms["during the refresh"] = during
            found.day_rows = _rows() - before
    return found


class World:
    """The simulated partners of so many enterprises, over months that end with LAST, and the business date after it."""

    def __init__(self, smes: int, months: int, work: Path) -> None:
        from sampan.calendar import business_days

        from infra.simulator.orders import Order
        from infra.simulator.population import make
        from infra.simulator.world import month_after

        begun = month_after(LAST, 1 - months)
        days = business_days(LAST + timedelta(days=1))
        order = Order(SEED, smes, next(days), days=1, history_from=begun, history_months=1, faults="none")
        people = make(SEED, smes)
        fewer = people.smes.with_columns(orders_a_day=pl.col("orders_a_day") * ORDERS)
        self._whole = order.world(replace(people, smes=fewer))
        *history, after = self._whole.schedule
        self.last, self.next = history[-1].business_date, after.business_date
        self._truth = work / "truth"

    def deliver(self, until: date) -> None:
        """Let partners put what belongs to the business dates up to one."""
        self._send(self._whole.part(self._whole.schedule[0].business_date, until))

    def deliver_next(self) -> None:
        """Let partners put what belongs to the next business date."""
        self._send(self._whole.part(self.next, self.next))

    def _send(self, part: Any) -> None:
        from sampan.settings import settings

        from infra.simulator import deliver, faults

        bucket = deliver.Bucket(settings().s3, settings().drop_bucket)
        dropped = [feed for feed in deliver.FEEDS if not WITHOUT.match(feed)]
        deliver.deliver(bucket, part, faults=faults.NONE, feeds=dropped, truth=self._truth)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """The simulated APIs in place of the official ones."""
        from sampan.contracts.registry import all_contracts
        from sampan.settings import settings

        from infra.simulator.serve import Behaviour, Server

        with Server(Behaviour(SEED), world=self._whole) as server:
            base = server.url.removesuffix("/public")
            for contract in all_contracts().values():
                for request in contract.source.requests:
                    os.environ[request.base_variable] = base + urlsplit(request.base).path
            settings.cache_clear()
            yield


def refreshed(day: date) -> dict[str, float]:
    """Seconds of each part of a refresh: every feed from fetch to publish, the build, its gate, the release."""
    from sampan.marts import build, release

    seconds = ingested(day)
    for name, work in (("build", build.run), ("check", release.gate), ("release", release.run)):
        start = time.perf_counter()
        work()
        seconds[name] = time.perf_counter() - start
        print(f"  {name}: {seconds[name]:.0f} s", flush=True)
    return seconds


def ingested(day: date) -> dict[str, float]:
    """Seconds of each step from fetch to publish, of every feed."""
    from sampan.calendar import HONG_KONG
    from sampan.contracts.registry import all_contracts
    from sampan.database import connect
    from sampan.ingest import fetch, freshness, gate, land, load, publish

    freshness.set_clock(datetime.combine(day + timedelta(days=1), time_of_day(12), HONG_KONG))
    seconds = dict.fromkeys(("fetch", "land", "load", "gate", "publish"), 0.0)
    for feed, contract in all_contracts().items():
        if WITHOUT.match(feed):
            continue
        for name, step in (("fetch", fetch), ("land", land), ("load", load), ("gate", gate), ("publish", publish)):
            start = time.perf_counter()
            if step is fetch and contract.source.kind == "api":
                fetch.run(feed, day)
            else:
                step.run(feed)
            seconds[name] += time.perf_counter() - start
    with connect("loader") as connection:
        held = connection.execute("select feed, problem from ops.open_problem").fetchall()
    if held:
        raise RuntimeError(f"deliveries were held, so nothing of this run counts: {held}")
    return seconds


def asked(seconds: float, stop: threading.Event | None = None) -> list[float]:
    """Milliseconds of each documented query, asked in random order by CLIENTS analysts at the same time."""
    from sampan.settings import settings

    queries = documented_queries()
    ended = time.monotonic() + seconds
    taken: list[float] = []

    def analyst(number: int) -> None:
        choice = random.Random(number)
        with psycopg.connect(settings().dsn("bi"), autocommit=True) as connection:
            while time.monotonic() < ended and not (stop and stop.is_set()):
                start = time.perf_counter()
                connection.execute(choice.choice(queries)).fetchall()
                taken.append(1000 * (time.perf_counter() - start))

    analysts = [threading.Thread(target=analyst, args=(number,)) for number in range(CLIENTS)]
    for one in analysts:
        one.start()
    for one in analysts:
        one.join()
    return taken


def documented_queries() -> list[bytes]:
    """The documented queries."""
    from sampan.report.questions import all_questions

    return [question.query.encode() for question in all_questions()]


@contextmanager
def peak_memory() -> Iterator[object]:
    """Most memory of this process and the servers that it started, in MiB, without what they share, by a look each second."""
    ended, most = threading.Event(), [0.0]

    def look() -> None:
        while not ended.wait(1.0):
            mine = psutil.Process()
            total = 0
            for process in (mine, *mine.children(recursive=True)):
                try:
                    info = process.memory_info()
                    total += info.rss - info.shared
                except psutil.Error:
                    continue
            most[0] = max(most[0], total / MIB)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield lambda: most[0]
    finally:
        ended.set()
        watcher.join()


def _rows() -> int:
    from sampan.settings import settings

    with psycopg.connect(settings().dsn("loader")) as connection:
        ((rows,),) = connection.execute(
            "select sum(rows_published) from ops.batch where state = 'published'"
        ).fetchall()
        return int(rows)


def _bytes_a_row(rows: int) -> dict[str, float]:
    """Bytes on disk per published row: by schema, and of what landed."""
    from sampan.settings import settings

    with psycopg.connect(settings().dsn("admin")) as connection:
        query = """
            select nspname, sum(pg_total_relation_size(c.oid))::bigint
            from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
            where relkind in ('r', 'm') and nspname !~ '^(pg_|information_schema)'
            group by nspname
        """
        found: dict[str, float] = {}
        for schema, size in connection.execute(query):
            name = "marts" if schema.startswith(("release_", "consented_")) else schema
            found[name] = found.get(name, 0.0) + size / rows
        ((landed,),) = connection.execute("select sum(bytes) from ops.batch where state = 'published'").fetchall()
    return found | {"landing": float(landed) / rows}


def _plain_copy(work: Path) -> float:
    """Seconds for COPY of all rows in raw, as CSV, into tables of the stored columns made in the same transaction."""
    from sampan.contracts.registry import all_contracts
    from sampan.settings import settings

    seconds, file = 0.0, work / "plain.csv"
    with psycopg.connect(settings().dsn("loader")) as connection:
        for feed, contract in all_contracts().items():
            names = sql.SQL(", ").join(sql.Identifier(column.name) for column in contract.stored)
            table = sql.Identifier("raw", feed)
            unload = sql.SQL("copy (select {} from {}) to stdout (format csv)").format(names, table)
            with file.open("wb") as stream, connection.cursor() as cursor, cursor.copy(unload) as copy:
                for piece in copy:
                    stream.write(piece)
            connection.commit()
            start = time.perf_counter()
            columns = ", ".join(f"{column.name} {column.type}" for column in contract.stored)
            connection.execute(f"create table intake.plain ({columns})")
            load = "copy intake.plain from stdin (format csv)"
            with file.open("rb") as stream, connection.cursor() as cursor, cursor.copy(load) as copy:
                while piece := stream.read(MIB):
                    copy.write(piece)
            connection.commit()
            seconds += time.perf_counter() - start
            connection.execute("drop table intake.plain")
            connection.commit()
    file.unlink()
    return seconds


def p95(values: list[float]) -> float:
    """The value that 95 of 100 do not exceed."""
    return statistics.quantiles(values, n=20)[-1]


def report(sizes: list[Measured]) -> str:
    """The figures as a Markdown section."""
    lines = [
        BEGIN,
        f"{os.cpu_count()} cores, Python {platform.python_version()}, PostgreSQL 18. One run.",
        "",
        "| enterprises | months | rows | landing to release, s | plain COPY, s | ratio | next day: rows | its refresh, s |"
        " query p95 at rest, ms | during the refresh, ms | peak memory, MiB | bytes a row on disk |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for size in sizes:
        rest, during = (p95(size.query_ms[name]) for name in ("at rest", "during the refresh"))
        lines.append(
            f"| {size.smes:,} | {size.months} | {size.rows:,} | {size.seconds:,.0f} | {size.copy:,.0f} |"
            f" {size.seconds / size.copy:.1f} | {size.day_rows:,} | {sum(size.day.values()):,.0f} | {rest:,.0f} |"
            f" {during:,.0f} | {size.memory_mib:,.0f} | {sum(size.bytes_a_row.values()):,.0f} |"
        )
    lines += ["", "Where the time goes, in seconds, and the disk, in bytes a row:", ""]
    for size in sizes:
        steps = ", ".join(f"{name} {seconds:,.0f}" for name, seconds in size.steps.items())
        disk = ", ".join(f"{name} {value:,.0f}" for name, value in sorted(size.bytes_a_row.items()) if value >= 1)
        lines.append(f"- {size.smes:,} enterprises, {size.months} months: {steps}. On disk: {disk}.")
    lines += [
        "",
        f"Bars: landing to release at most {BARS['year']} times plain COPY, a day's refresh at most {BARS['day']:.0f} s,"
        f" 95 of 100 queries within {BARS['query']:.0f} ms.",
    ]
    return "\n".join([*lines, END])


def main() -> None:
    """Run the benchmark; print the report and, on request, keep it in a Markdown file between its marks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smes", default="36000,108000,360000", help="numbers of enterprises, by commas")
    parser.add_argument(
        "--months", default="12", help="months of history, by commas: each with each number of enterprises"
    )
    parser.add_argument("--write", type=Path, help="Markdown file that holds the report")
    options = parser.parse_args()
    sizes = []
    for smes in map(int, options.smes.split(",")):
        for months in map(int, options.months.split(",")):
            print(f"{smes:,} enterprises, {months} months", flush=True)
            with tempfile.TemporaryDirectory() as folder:
                sizes.append(measured(smes, months, Path(folder)))
    text = report(sizes)
    print(text)
    if options.write:
        keep(options.write, text, BEGIN, END)


if __name__ == "__main__":
    main()
