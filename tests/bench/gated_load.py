"""Gated load against its peers, in one run on one machine: `python tests/bench/gated_load.py --rows 5000000`.

Peers: plain COPY of the same file into the same columns (no check, no ledger, no line numbers), and dlt in each of its ways
into PostgreSQL (no check either). All read the same gzip CSV and write to the same server. Rounds take turns, so that a
machine that grows slower slows all of them; the ratio is of medians.
"""

from __future__ import annotations

import argparse
import os
import platform
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]

import psycopg  # noqa: E402

from infra.local.postgres import ADMIN, SUPERUSER, EmbeddedPostgres  # noqa: E402
from infra.local.s3 import EmbeddedS3  # noqa: E402

FEED = "customs_declarations"
START = date(2026, 8, 1)
PAUSE = float(os.environ.get("SAMPAN_BENCH_PAUSE", "5"))  # seconds
BEGIN, END = "<!-- gated load -->", "<!-- end of gated load -->"


def environment(postgres: EmbeddedPostgres, s3: EmbeddedS3, state: Path) -> None:
    """Point Sampan at the benchmark's own servers."""
    os.environ |= {
        "SAMPAN_STATE": str(state),
        "SAMPAN_WAREHOUSE_DSN": postgres.dsn(),
        "SAMPAN_S3_ENDPOINT": s3.endpoint,
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        **s3.settings,
    }
    for key in ("LOADER_PASSWORD", "BUILDER_PASSWORD", "BI_PASSWORD", "PSEUDONYM_KEY"):
        os.environ[f"SAMPAN_{key}"] = secrets.token_hex(32)


def settle() -> None:
    """Bring server and machine to rest, so that no contestant pays for the one before or gains by it.

    What is unwritten is written, and memory that was freed is given back: a virtual machine may hand it to its host, and
    the first to ask for it afterwards waits (measured: COPY takes 9 s in memory that its own last table left, 11 to 13 s
    otherwise).
    """
    from sampan.settings import settings

    with psycopg.connect(settings().dsn("admin"), autocommit=True) as connection:
        connection.execute("checkpoint")
    os.sync()
    time.sleep(PAUSE)


def gated_load(file: Path, day: date, feed: str = FEED) -> float:
    """Seconds for load, gate and publish of a landed delivery; every round is a business date of its own."""
    from sampan.contracts.registry import get_contract
    from sampan.ingest import fetch, gate, land, load, publish
    from sampan.settings import settings

    contract = get_contract(feed)
    settings().s3(contract.partner).upload_file(str(file), "drop", f"{contract.drop_prefix}{day}/{file.name}")
    fetch.run(feed)
    land.run(feed)
    settle()
    start = time.perf_counter()
    for step in (load, gate, publish):
        done = step.run(feed)
    seconds = time.perf_counter() - start
    if done["batches"] != 1 or done["held"]:
        raise SystemExit(f"the delivery did not get through: {done}")
    return seconds


def plain_copy(file: Path, feed: str = FEED) -> float:
    """Seconds for COPY of a CSV file, unpacked, into a table of the stored columns, made in the same transaction."""
    from isal import igzip
    from sampan.contracts.registry import get_contract
    from sampan.settings import settings

    columns = ", ".join(f"{column.name} {column.type}" for column in get_contract(feed).stored)
    with psycopg.connect(settings().dsn("loader")) as connection:
        connection.execute("set timezone to 'Asia/Hong_Kong'")
        connection.commit()
        settle()
        start = time.perf_counter()
        connection.execute(f"create table intake.plain ({columns})")
        with (
            igzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream,
            connection.cursor().copy("copy intake.plain from stdin (format csv, header)") as copy,
        ):
            while block := stream.read(1 << 18):
                copy.write(block)
        connection.commit()
        seconds = time.perf_counter() - start
        connection.execute("drop table intake.plain")
        return seconds


def dlt_load(file: Path, form: str, work: Path) -> float:
    """Seconds for dlt to bring the same file, read as Arrow, into PostgreSQL by one of its file formats."""
    import dlt
    import pyarrow as pa
    import pyarrow.csv
    from sampan.contracts.registry import get_contract
    from sampan.settings import settings

    kinds = {"text": pa.string(), "bigint": pa.int64(), "numeric": pa.decimal128(18, 2), "date": pa.date32()}
    types = {c.name: kinds.get(c.type, pa.timestamp("us")) for c in get_contract(FEED).stored}
    dataset = f"dlt_{form}_{secrets.token_hex(3)}"
    pipeline = dlt.pipeline(
        dataset,
        destination=dlt.destinations.postgres(os.environ["SAMPAN_WAREHOUSE_DSN"]),
        dataset_name=dataset,
        pipelines_dir=str(work / dataset),
    )

    @dlt.resource(name="lines", write_disposition="append")
    def lines():
        convert = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True)
        read = pyarrow.csv.ReadOptions(block_size=8 << 20)
        yield from pyarrow.csv.open_csv(file, read_options=read, convert_options=convert)

    settle()
    start = time.perf_counter()
    pipeline.run(lines(), loader_file_format=form)
    seconds = time.perf_counter() - start
    with psycopg.connect(settings().dsn("admin"), autocommit=True) as connection:
        connection.execute(f"drop schema {dataset} cascade")
    return seconds


def rounds(file: Path, small: Path, runs: int, work: Path, forms: tuple[str, ...]) -> dict[str, list[float]]:
    """Seconds of every round by contestant. A small delivery first pays for everybody's imports."""
    from sampan.warehouse import schema as warehouse

    warehouse.apply_schema()
    days = (START + timedelta(days=n) for n in range(10_000))
    contestants: dict[str, Callable[[Path], float]] = {
        "plain COPY": plain_copy,
        "Sampan: load, gate, publish": lambda path: gated_load(path, next(days)),
    } | {f"dlt, {form}": lambda path, form=form: dlt_load(path, form, work) for form in forms}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for run in contestants.values():
        run(small)
    for turn in range(runs):
        for name, run in contestants.items():
            seconds[name].append(run(file))
            print(f"round {turn + 1}: {name}: {seconds[name][-1]:.1f} s", flush=True)
    return seconds


def report(seconds: dict[str, list[float]], rows: int, megabytes: float) -> str:
    """The medians and ratios as a Markdown section."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    ours = median["Sampan: load, gate, publish"]
    copy = median["plain COPY"]
    lines = [
        BEGIN,
        f"{rows:,} lines, {megabytes:,.0f} MB of CSV unpacked, {os.cpu_count()} cores, Python {platform.python_version()},"
        f" PostgreSQL 18, {len(next(iter(seconds.values())))} rounds in turns.",
        "",
        "| contestant | checks | median s | least and most s | lines per second | time against plain COPY |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, value in median.items():
        checks = "all" if name.startswith("Sampan") else "none"
        spread = f"{min(seconds[name]):.1f}-{max(seconds[name]):.1f}"
        lines.append(f"| {name} | {checks} | {value:.1f} | {spread} | {rows / value:,.0f} | {value / copy:.2f} |")
    lines += ["", f"Gated load takes **{ours / copy:.2f}** times plain COPY (bar: at most 1.5)."]
    bars = {"dlt, csv": "at least 3", "dlt, parquet": "more than 1: ADR 0009"}
    for name in sorted(median.keys() & bars.keys()):
        lines += [f"It is **{median[name] / ours:.1f}** times as fast as {name} (bar: {bars[name]})."]
    return "\n".join([*lines, END])


def keep(page: Path, text: str, begin: str, end: str) -> None:
    """Put a report into a Markdown file in place of the one between its marks."""
    before, rest = page.read_text().split(begin)
    page.write_text(before + text + rest.split(end)[1])


def main() -> None:
    """Run the benchmark; print the report and, on request, keep it in a Markdown file between its marks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--dlt", default="csv,parquet", help="dlt's file formats to measure, by commas; none for none")
    parser.add_argument("--write", type=Path, help="Markdown file that holds the report")
    options = parser.parse_args()
    forms = tuple(form for form in options.dlt.split(",") if form != "none")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        files = []
        for rows in (options.rows, 2_000):
            file = work / f"lines_{rows}.csv.gz"
            command = ["-m", "infra.simulator", "lines", "--rows", str(rows), "--out", str(file)]
            subprocess.run([sys.executable, *command], check=True, cwd=ROOT)
            files.append(file)
        megabytes = int.from_bytes(files[0].read_bytes()[-4:], "little") / 1e6
        with EmbeddedPostgres(work / "postgres") as postgres, EmbeddedS3(work / "s3") as s3:
            postgres.bootstrap()
            with psycopg.connect(postgres.dsn("postgres", SUPERUSER), autocommit=True) as connection:
                connection.execute(f"grant pg_checkpoint to {ADMIN}")
            environment(postgres, s3, work / "state")
            text = report(rounds(files[0], files[1], options.runs, work, forms), options.rows, megabytes)
    print(text)
    if options.write:
        keep(options.write, text, BEGIN, END)


if __name__ == "__main__":
    main()
