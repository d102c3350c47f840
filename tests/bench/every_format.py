"""Gated load of every format against plain COPY of the same rows, in one run: `python -m tests.bench.every_format`.

One row of a hundred is odd: it breaks a rule, or is written as few are. Plain COPY reads the sound rows as CSV into the
columns that Sampan stores, without any check. Of a workbook the peer is calamine, which only reads the cells. Rounds take
turns; the ratio is of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]

import psycopg  # noqa: E402
from sampan.contracts.model import Contract  # noqa: E402

from infra.local.postgres import ADMIN, SUPERUSER, EmbeddedPostgres  # noqa: E402
from infra.local.s3 import EmbeddedS3  # noqa: E402
from tests.bench.chart import bars  # noqa: E402
from tests.bench.deliveries import KINDS, Kind, write  # noqa: E402
from tests.bench.gated_load import START, environment, gated_load, keep, plain_copy, settle  # noqa: E402

BEGIN, END = "<!-- every format -->", "<!-- end of every format -->"
CLEAN, ODD, XLSX = "CSV, gzip, clean", "CSV, gzip, 1% odd", "XLSX, 1% odd"
# At most, against the peer; of the second kind against the first.
BARS = {
    CLEAN: 1.5,
    ODD: 1.25,
    "JSON Lines, zstd, 1% odd": 3.0,
    "Parquet, 1% odd": 1.8,
    "fixed width, 1% odd": 2.0,
    XLSX: 3.0,
}
CHART = "every-format.svg"


@dataclass
class Measured:
    """What a kind took: seconds of every gated load and of every peer; memory in MiB, also of a tenth of the rows."""

    rows: int
    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    memory_of_a_tenth: float = 0


class Memory:
    """Peak memory, in MiB, inside a `with`: of this process or, if that is more, of the largest reader that it made.

    The kernel notes it anyway: to look at the pages of a process meanwhile would slow it down.
    """

    peak = 0.0

    def __enter__(self) -> Self:
        # Its peak so far is forgotten.
        Path("/proc/self/clear_refs").write_text("5")
        return self

    def __exit__(self, *_: object) -> None:
        lines = Path("/proc/self/status").read_text().splitlines()
        (here,) = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
        self.peak = max(here, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def calamine(path: Path) -> float:
    """Seconds for calamine to read all cells of the first sheet."""
    import python_calamine

    settle()
    start = time.perf_counter()
    python_calamine.CalamineWorkbook.from_path(str(path)).get_sheet_by_index(0).to_python()
    return time.perf_counter() - start


def measured(kinds: Sequence[Kind], rows: int, runs: int, work: Path) -> dict[str, Measured]:
    """What every kind took. A tenth of its rows first pays for the imports; each round delivers rows of its own."""
    from sampan.warehouse import schema as warehouse

    warehouse.apply_schema()
    days = (START + timedelta(days=n) for n in range(10_000))
    found = {}
    for kind in kinds:
        is_sheet = kind.contract.source.format == "xlsx"
        count = min(rows, most_rows(kind.contract))
        taken = found[kind.name] = Measured(count)
        delivery, plain = work / f"{kind.feed}.{kind.contract.source.extension}", work / "plain.csv"
        for turn, size in enumerate((count // 10, *[count] * runs)):
            # The peer keeps no key, so that it may load the same rows in each round.
            write(kind, size, delivery, plain if turn < 2 else None, first=turn * count)
            peer = calamine(delivery) if is_sheet else plain_copy(plain, kind.feed)
            with Memory() as memory:
                ours = gated_load(delivery, next(days), kind.feed)
            _refuse_clashes(kind.feed)
            delivery.unlink()
            if not turn:
                taken.memory_of_a_tenth = memory.peak
                continue
            taken.peer.append(peer)
            taken.ours.append(ours)
            taken.memory.append(memory.peak)
            print(
                f"{kind.name}, round {turn}: peer {peer:.2f} s, Sampan {ours:.2f} s, {memory.peak:,.0f} MiB"
                f" ({taken.memory_of_a_tenth:,.0f} MiB for a tenth)",
                flush=True,
            )
    return found


def most_rows(contract: Contract) -> int:
    """Of more rows a batch rule of the contract holds a delivery."""
    counts = (rule for rule in contract.batch_rules if rule.expectation == "expect_table_row_count_to_be_between")
    return min((int(rule.kwargs["max_value"]) for rule in counts if rule.kwargs["max_value"]), default=sys.maxsize)


def _refuse_clashes(feed: str) -> None:
    """End the benchmark if rows of the newest batch had the same key: then it measured something else."""
    from sampan.database import connect
    from sampan.errors import Code

    query = """
        select batch_id, rows_duplicate, count(quarantine_id)
        from (select * from ops.batch where feed = %(feed)s order by batch_id desc limit 1) as b
        left join quarantine.record as q using (feed, batch_id)
        where q.broken_rules is null or %(rule)s = any(q.broken_rules)
        group by batch_id, rows_duplicate
    """
    with connect() as connection:
        found = connection.execute(query, {"feed": feed, "rule": str(Code.PRIMARY_KEY_CONTRADICTING_ROWS)}).fetchone()
    if found and any(found[1:]):
        raise SystemExit(f"{feed}: rows of the delivery have the same key: {found}")


def report(found: dict[str, Measured], chart: str) -> str:
    """The medians and ratios as a Markdown section; `chart` is the address of the picture."""
    lines = [
        BEGIN,
        f"{os.cpu_count()} cores, Python {platform.python_version()}, PostgreSQL 18,"
        f" {len(next(iter(found.values())).ours)} rounds in turns.",
        "",
        f"![Time against the peer, by format]({chart})",
        "",
        "| delivery | rows | Sampan, median s | rows a second | peer | its median s | ratio | at most |"
        " memory, MiB | of a tenth, MiB |",
        "|---|---:|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    for name, taken in found.items():
        median, against, seconds = statistics.median(taken.ours), *peer_of(name, found)
        lines.append(
            f"| {name} | {taken.rows:,} | {median:.1f} | {taken.rows / median:,.0f} | {against} | {seconds:.1f} |"
            f" {median / seconds:.2f} | {BARS[name]} | {max(taken.memory):,.0f} | {taken.memory_of_a_tenth:,.0f} |"
        )
    return "\n".join([*lines, END])


def peer_of(name: str, found: dict[str, Measured]) -> tuple[str, float]:
    """What a kind is measured against, and its median in seconds."""
    if name == ODD and CLEAN in found:
        return "the clean one", statistics.median(found[CLEAN].ours)
    return "calamine" if name == XLSX else "plain COPY", statistics.median(found[name].peer)


def main() -> None:
    """Run the benchmark; print the report and, on request, keep it in a Markdown file between its marks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", action="append", choices=BARS, help="a kind of delivery; all without")
    parser.add_argument("--results", type=Path, help="JSON file to add to, so that each kind can be run alone")
    parser.add_argument("--write", type=Path, help="Markdown file that holds the report; the chart goes beside it")
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if not options.only or kind.name in options.only]
    before = json.loads(options.results.read_text()) if options.results and options.results.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        with EmbeddedPostgres(work / "postgres") as postgres, EmbeddedS3(work / "s3") as s3:
            postgres.bootstrap()
            with psycopg.connect(postgres.dsn("postgres", SUPERUSER), autocommit=True) as connection:
                connection.execute(f"grant pg_checkpoint to {ADMIN}")
            environment(postgres, s3, work / "state")
            new = measured(kinds, options.rows, options.runs, work)
    all_of = {name: Measured(**taken) for name, taken in before.items()} | new
    found = {name: all_of[name] for name in BARS if name in all_of}
    if options.results:
        options.results.write_text(json.dumps({name: asdict(taken) for name, taken in found.items()}))
    text = report(found, CHART)
    print(text)
    if options.write:
        keep(options.write, text, BEGIN, END)
        chart = options.write.parent / CHART
        ratios = {name: statistics.median(taken.ours) / peer_of(name, found)[1] for name, taken in found.items()}
        chart.write_text(bars("Time against the peer, and the bar", ratios, BARS))


if __name__ == "__main__":
    main()
