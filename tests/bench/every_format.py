"""Gated load of every format against plain COPY of the same rows, in one run: `python -m tests.bench.every_format`.

One row of a hundred is odd: it breaks a rule, or is written as few are. Plain COPY reads the sound rows as CSV into the
columns that Sampan stores, without any check. Of a workbook the peer is calamine, which only reads the cells. Rounds take
turns; the ratio is of medians.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]

import psycopg  # noqa: E402

from infra.local.postgres import ADMIN, SUPERUSER, EmbeddedPostgres  # noqa: E402
from infra.local.s3 import EmbeddedS3  # noqa: E402
from tests.bench.gated_load import START, environment, gated_load, keep, plain_copy, settle  # noqa: E402

BEGIN, END = "<!-- every format -->", "<!-- end of every format -->"
# At most, against the peer; of the second kind against the first.
BARS = {
    "CSV, gzip, clean": 1.5,
    "CSV, gzip, 1% odd": 1.25,
    "JSON Lines, zstd, 1% odd": 3.0,
    "Parquet, 1% odd": 1.8,
    "fixed width, 1% odd": 2.0,
    "XLSX, 1% odd": 3.0,
}
MOST_XLSX = 200_000


def calamine(path: Path) -> float:
    """Seconds for calamine to read all cells of the first sheet."""
    import python_calamine

    settle()
    start = time.perf_counter()
    python_calamine.CalamineWorkbook.from_path(str(path)).get_sheet_by_index(0).to_python()
    return time.perf_counter() - start


def measured(rows: int, runs: int, work: Path) -> dict[str, tuple[int, list[float], list[float]]]:
    """By kind: rows, seconds of every gated load, seconds of every peer. A small delivery first pays for the imports."""
    from sampan.warehouse import schema as warehouse

    from tests.bench.deliveries import KINDS, write

    warehouse.apply_schema()
    found, day = {}, START
    for kind in KINDS:
        is_sheet = kind.contract.source.format == "xlsx"
        count = min(rows, MOST_XLSX) if is_sheet else rows
        ours: list[float] = []
        peer: list[float] = []
        for size in (2_000, count):
            delivery, plain = work / f"{kind.feed}_{size}.{kind.contract.source.extension}", work / f"{size}.csv"
            write(kind, size, delivery, plain)
            for turn in range(runs if size == count else 1):
                day += timedelta(days=1)
                seconds = (
                    calamine(delivery) if is_sheet else plain_copy(plain, kind.feed),
                    gated_load(delivery, day, kind.feed),
                )
                if size == count:
                    peer.append(seconds[0])
                    ours.append(seconds[1])
                    print(
                        f"{kind.name}, round {turn + 1}: peer {seconds[0]:.2f} s, Sampan {seconds[1]:.2f} s", flush=True
                    )
            delivery.unlink()
            plain.unlink()
        found[kind.name] = (count, ours, peer)
    return found


def report(found: dict[str, tuple[int, list[float], list[float]]]) -> str:
    """The medians and ratios as a Markdown section."""
    lines = [
        BEGIN,
        f"{os.cpu_count()} cores, Python {platform.python_version()}, PostgreSQL 18,"
        f" {len(next(iter(found.values()))[1])} rounds in turns.",
        "",
        "| delivery | rows | Sampan, median s | rows a second | peer | its median s | ratio | at most |",
        "|---|---:|---:|---:|---|---:|---:|---:|",
    ]
    clean = statistics.median(found["CSV, gzip, clean"][1])
    for name, (count, ours, peer) in found.items():
        median, other = statistics.median(ours), statistics.median(peer)
        against, seconds = ("calamine", other) if name.startswith("XLSX") else ("plain COPY", other)
        if name == "CSV, gzip, 1% odd":
            against, seconds = "the clean one", clean
        lines.append(
            f"| {name} | {count:,} | {median:.1f} | {count / median:,.0f} | {against} | {seconds:.1f} |"
            f" {median / seconds:.2f} | {BARS[name]} |"
        )
    return "\n".join([*lines, END])


def main() -> None:
    """Run the benchmark; print the report and, on request, keep it in a Markdown file between its marks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", type=Path, help="Markdown file that holds the report")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        with EmbeddedPostgres(work / "postgres") as postgres, EmbeddedS3(work / "s3") as s3:
            postgres.bootstrap()
            with psycopg.connect(postgres.dsn("postgres", SUPERUSER), autocommit=True) as connection:
                connection.execute(f"grant pg_checkpoint to {ADMIN}")
            environment(postgres, s3, work / "state")
            text = report(measured(options.rows, options.runs, work))
    print(text)
    if options.write:
        keep(options.write, text, BEGIN, END)


if __name__ == "__main__":
    main()
