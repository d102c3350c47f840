"""How long a build takes with each engine: `python -m tests.bench.engines`.

For each number of enterprises a simulated history is ingested once. On a copy of that warehouse each engine then builds
the history, and the business date after it. All rows are synthetic.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]

import psutil  # noqa: E402
import psycopg  # noqa: E402

from infra.local.postgres import EmbeddedPostgres  # noqa: E402
from tests.bench.gated_load import keep, settle  # noqa: E402
from tests.bench.year import World, empty_warehouse, ingested  # noqa: E402
from tests.conftest import copy_database  # noqa: E402

BEGIN, END = "<!-- engines -->", "<!-- end of engines -->"
ENGINES = ("postgres", "duckdb")


@dataclass(frozen=True)
class Cost:
    """What a build took: seconds by the clock, and of all processors in this process and in the server."""

    seconds: float
    own: float
    server: float

    def __str__(self) -> str:
        return f"{self.seconds:.0f} s | {self.own:.0f} s | {self.server:.0f} s"


@dataclass(frozen=True)
class Measured:
    """One number of enterprises: months, rows of raw and of the last day, and by engine the builds of all and of that day."""

    smes: int
    months: int
    rows: int
    day_rows: int
    builds: dict[str, tuple[Cost, Cost]]


def measured(smes: int, months: int, work: Path) -> Measured:
    """Both engines on the same raw rows."""
    with empty_warehouse(work) as postgres:
        from sampan.settings import settings

        world = World(smes, months, work)
        with world.answering():
            world.deliver(world.last)
            # APIs too: asked as of the next day alone, they would bring all history, exchange rates among it, on that day.
            ingested(world.last)
            world.deliver_next()
            ingested(world.next)
        with psycopg.connect(postgres.dsn()) as connection:
            count = "select coalesce(sum(rows_published), 0) from ops.batch where state = 'published' and business_date >= %s"
            rows, day_rows = (connection.execute(count, [day]).fetchone()[0] for day in ("1900-01-01", world.next))
        builds = {}
        for engine in ENGINES:
            copy_database(postgres.dsn(), "sampan", f"of_{engine}")
            copy = {"SAMPAN_WAREHOUSE_DSN": postgres.dsn(f"of_{engine}"), "SAMPAN_BUILD_ENGINE": engine}
            os.environ |= copy | {"SAMPAN_STATE": str(work / engine)}
            settings.cache_clear()
            builds[engine] = _built(str(world.next), postgres)
            print(f"  {engine}: all {builds[engine][0]}; the day {builds[engine][1]}", flush=True)
        return Measured(smes, months, int(rows), int(day_rows), builds)


def _built(day: str, postgres: EmbeddedPostgres) -> tuple[Cost, Cost]:
    """The build of all before a day, and of that day."""
    from sampan.marts import build, dbt, release
    from sampan.settings import settings

    # Parsing the project is left out.
    dbt.DbtRunner().project()
    move = "update ops.batch set state = %s where state = %s and business_date >= %s"
    with psycopg.connect(settings().dsn("admin"), autocommit=True) as connection:
        connection.execute(move, ["gated", "published", day])
        settle()
        whole = _cost(build.run, postgres)
        release.gate()
        release.run()
        connection.execute(move, ["published", "gated", day])
        settle()
        return whole, _cost(build.run, postgres)


def _cost(work: Callable[[], object], postgres: EmbeddedPostgres) -> Cost:
    own, server, start = _own(), _server(postgres), time.perf_counter()
    work()
    return Cost(time.perf_counter() - start, _own() - own, _server(postgres) - server)


def _own() -> float:
    return sum(os.times()[:2])


def _server(postgres: EmbeddedPostgres) -> float:
    """Seconds of processor of the server's processes, those that ended included."""
    postmaster = psutil.Process(postgres.postmaster())
    used = sum(postmaster.cpu_times()[:4])
    for process in postmaster.children():
        try:
            used += sum(process.cpu_times()[:2])
        except psutil.Error:
            continue
    return used


def report(sizes: list[Measured]) -> str:
    """The report between its marks, as Markdown."""
    lines = [
        BEGIN,
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, {os.cpu_count()} cores, {platform.machine()}. Seconds by the clock, and"
        " of processor in the process that builds and in PostgreSQL.",
        "",
        "| enterprises | months | build of | engine | clock | builder | PostgreSQL |",
        "|---|---|---|---|---|---|---|",
    ]
    for size in sizes:
        for at, (what, rows) in enumerate((("all", size.rows - size.day_rows), ("the day after", size.day_rows))):
            lines += [
                f"| {size.smes:,} | {size.months} | {what}, {rows:,} rows | {engine} | {costs[at]} |"
                for engine, costs in size.builds.items()
            ]
    for size in sizes:
        (all_by_postgres, day_by_postgres), (all_by_duckdb, day_by_duckdb) = (size.builds[name] for name in ENGINES)
        lines += [
            "",
            f"With {size.smes:,} enterprises a build of all takes DuckDB"
            f" **{all_by_duckdb.seconds / all_by_postgres.seconds:.2f}** times as long as PostgreSQL, and that of a day"
            f" **{day_by_duckdb.seconds / day_by_postgres.seconds:.2f}** times.",
        ]
    return "\n".join([*lines, END])


def main() -> None:
    """Run the benchmark; print the report and, on request, keep it in a Markdown file between its marks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smes", default="2000,20000", help="numbers of enterprises, by commas")
    parser.add_argument(
        "--months", default="12", help="months of history: one number for all, or one for each, by commas"
    )
    parser.add_argument("--write", type=Path, help="Markdown file that holds the report")
    options = parser.parse_args()
    numbers, months = ([int(number) for number in text.split(",")] for text in (options.smes, options.months))
    if len(months) not in (1, len(numbers)):
        parser.error("give --months once, or once for each of --smes")
    sizes = []
    for smes, history in zip(numbers, months * (len(numbers) // len(months)), strict=True):
        print(f"{smes:,} enterprises, {history} months", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            sizes.append(measured(smes, history, Path(folder)))
        text = report(sizes)
        print(text)
        if options.write:
            keep(options.write, text, BEGIN, END)


if __name__ == "__main__":
    main()
