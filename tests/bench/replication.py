"""What a standby and backups cost on this machine: `wal_level = replica` for a load, a copy of the server, the way back, and
how long a standby takes to show what was committed.

`python -m tests.bench.replication --write docs/growth.md` keeps the report between its marks.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from infra.local.backup import Backups
from infra.local.postgres import STANDBY, SUPERUSER, EmbeddedPostgres
from tests.bench.gated_load import keep

BEGIN, END = "<!-- replication -->", "<!-- end of replication -->"
RUNS = 5
# As wide as a declaration line: 12 columns, 160 bytes.
ROWS = """
    select
        g as id, g % 97 as line_no, now() as lodged_at, date '2026-07-06' + g % 365 as movement_date,
        md5(g::text) as trader_id, md5((g % 1000)::text) as trader_name, '61091000' as hkhs_code,
        'goods of kind ' || g % 500 as goods_description, '631' as origin_country, g % 10000 as quantity,
        '11' as unit_code, (g % 1000000)::numeric / 100 as value_hkd
    from generate_series(1, {}) as g
"""


def connect(server: EmbeddedPostgres) -> psycopg.Connection:
    return psycopg.connect(server.dsn("postgres", SUPERUSER), autocommit=True)


def seconds(work: Callable[[], object]) -> float:
    """How long the work took."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def load_seconds(server: EmbeddedPostgres, rows: int) -> float:
    """Median time of a table that is made and filled in one transaction, as a batch and a mart are."""
    with connect(server) as connection:
        taken = []
        for number in range(RUNS):
            taken.append(
                seconds(lambda number=number: connection.execute(f"create table t{number} as {ROWS.format(rows)}"))
            )
            connection.execute("checkpoint")
        return statistics.median(taken)


def lag_milliseconds(primary: EmbeddedPostgres, standby: EmbeddedPostgres, times: int = 50) -> list[float]:
    """Time from a commit on the primary until a reader of the standby sees it."""
    with connect(primary) as near, connect(standby) as far:
        near.execute("create table seen (number int)")
        lags = []
        for number in range(times):
            near.execute("insert into seen values (%s)", [number])
            begun = time.perf_counter()
            while far.execute("select to_regclass('seen')").fetchone() == (None,):
                pass
            while far.execute("select max(number) from seen").fetchone() != (number,):
                pass
            lags.append(1000 * (time.perf_counter() - begun))
        return sorted(lags)


def measured(folder: Path, rows: int) -> list[tuple[str, str]]:
    """What was measured, and how much it was."""
    alone = EmbeddedPostgres(folder / "alone")
    alone.start()
    minimal = load_seconds(alone, rows)
    alone.stop()
    backups = Backups(folder / "backups")
    backups.prepare()
    primary = EmbeddedPostgres(folder / "primary", replica_password="of-the-bench", tuning=backups.tuning)
    primary.start()
    replicated = load_seconds(primary, rows)
    with connect(primary) as connection:
        connection.execute("create table marker as select 1")
        (size,) = connection.execute("select sum(pg_database_size(oid)) from pg_database").fetchone() or (0,)
    backup = seconds(lambda: backups.take(primary))
    primary.copy_to(folder / "standby", slot="bench")
    standby = EmbeddedPostgres(
        folder / "standby", password=primary.password, replica_password=primary.replica_password,
        tuning=backups.tuning | STANDBY,
    )  # fmt: skip
    standby.run()
    lags = lag_milliseconds(primary, standby)
    standby.stop()
    with connect(primary) as connection:
        connection.execute("select pg_drop_replication_slot('bench')")
        time.sleep(1.5)
        at = datetime.now(UTC)
        connection.execute("create table later as select 1")
    primary.stop()
    restore = seconds(lambda: backups.restore(primary, at))
    megabytes = int(size) / 2**20
    load = f"a table of {rows:,} rows, made and filled in one transaction"
    slower = f"{replicated:.1f} s, **{replicated / minimal:.2f}** times"
    seen = f"{lags[len(lags) // 2]:.0f} ms, {lags[-1]:.0f} ms"
    return [
        (f"{load}: one server", f"{minimal:.1f} s"),
        ("the same, with a standby or backups (`wal_level = replica`)", slower),
        ("from a commit until a reader of an idle standby sees it: median, worst of 50", seen),
        (
            f"a backup of {megabytes:,.0f} MB, verified (`make backup`)",
            f"{backup:.1f} s, {megabytes / backup:.0f} MB/s",
        ),
        ("the way back to a moment just after it (`make restore`)", f"{restore:.1f} s"),
    ]


def report(rows: list[tuple[str, str]]) -> str:
    """The report between its marks, as Markdown."""
    lines = [
        BEGIN,
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, {os.cpu_count()} cores, {platform.machine()}, all servers on one disk.",
        "",
        "| what | measured |",
        "|---|---|",
        *(f"| {what} | {much} |" for what, much in rows),
        END,
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark; print the report and, on request, keep it in a Markdown file between its marks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of each table")
    parser.add_argument("--write", type=Path, help="Markdown file that holds the report")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sampan-bench-") as folder:
        Path(folder).chmod(0o711)
        text = report(measured(Path(folder), options.rows))
    print(text)
    if options.write:
        keep(options.write, text, BEGIN, END)


if __name__ == "__main__":
    main()
