"""`make demo`: 30 synthetic business days, from the partners' drop prefixes to a released set of marts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from itertools import groupby, islice
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sampan.calendar import HONG_KONG, business_days

from infra.local import airflow
from infra.local.config import HOME, StackError
from infra.local.stack import DELIVER, OPEN_DATA, Stack

SMES, DAYS, START = 2000, 30, date(2026, 7, 6)
REFRESH = "refresh_marts"
DONE = ("success", "failed", "skipped", "upstream_failed", "removed")
COUNTS = ("rows_published", "rows_quarantined", "rows_duplicate", "rows_held")
EXAMPLE = (
    "select market_iso2_code as market, count(distinct sme_id) as exporters, sum(value_hkd) as value_hkd "
    "from marts.mart_sme_trade_monthly where flow <> 'import' group by 1 order by 3 desc limit 5"
)

BROKEN = (
    "select feed, state, late_at_partner_count as late_at_partner, late_here_count as late_here, waiting_count as held, "
    "broken_since from marts.mart_data_quality where is_broken order by feed"
)


@dataclass(frozen=True)
class Outcome:
    """What the ledger and the readers' schema hold: rows of the closing tables, and the number of the live release."""

    feeds: list[tuple[Any, ...]]
    marts: list[tuple[str, int]]
    release: int | None


class Demo:
    """One run of the demo on a local stack."""

    def __init__(self, console: Console, stack: Stack | None = None, smes: int = SMES, days: int = DAYS) -> None:
        self.console, self.smes, self.days = console, smes, days
        self.stack = stack or Stack()
        self.run_id = f"demo__{datetime.now().astimezone():%Y-%m-%dT%H:%M:%S}"

    def run(self) -> Outcome:
        """Everything, with progress on the console. Running it again finds nothing new and changes nothing.

        Raises:
            StackError: a program or a task failed; the text says which, and where its log is.
        """
        begun = time.monotonic()
        self.console.print("[bold]Sampan[/]: every person, enterprise and figure in this demo is synthetic")
        self._bring_up()
        self._set_clock()
        before = self.outcome()
        api = self._api()
        api.call("PATCH", f"dags/{REFRESH}", {"is_paused": True})
        try:
            self._ingest(api)
        finally:
            api.call("PATCH", f"dags/{REFRESH}", {"is_paused": False})
        self._run_dags(api, [REFRESH], "refresh of the marts")
        after = self.outcome()
        self._show(after)
        if after == before:
            self.console.print("\nNothing was new: the ledger and the release are what they were before.")
        self.console.print(f"\ndone in {time.monotonic() - begun:.0f} s")
        return after

    def _bring_up(self) -> None:
        """The stack; the partners deliver while Airflow starts, since they need only the object store."""
        stores = ["postgres"] if self.stack.config.external_s3 else ["postgres", "s3"]
        self.stack.up([*stores, OPEN_DATA], self._say)
        command = [sys.executable, "-m", "infra.simulator", "deliver"]
        command += ["--smes", str(self.smes), "--days", str(self.days), "--start", str(START)]
        self._say(f"simulated partners deliver {self.days} business days for {self.smes} SMEs")
        log = self.stack.config.logs / "deliver.log"
        with log.open("w") as file:
            partners = subprocess.Popen(
                command,
                cwd=HOME,
                env=self.stack.environment(DELIVER),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        self.stack.up(report=self._say)
        if partners.wait() != 0:
            raise StackError(f"the simulated partners failed; see {log}")
        self._say(log.read_text().rsplit("\r", 1)[-1].strip())

    def _api(self) -> airflow.Api:
        """Airflow's API, once the scheduler knows every DAG that the contracts and the folder `dags` define."""
        from sampan.contracts.registry import all_contracts

        wanted = {REFRESH, *(f"ingest__{feed}" for feed in all_contracts())}
        api, deadline = airflow.Api(self.stack.config), time.monotonic() + 90
        while wanted - {dag["dag_id"] for dag in api.get("dags?limit=500")["dags"]}:
            errors = api.get("importErrors")["import_errors"]
            if errors or time.monotonic() > deadline:
                raise StackError("\n".join(error["stack_trace"] for error in errors) or "the DAGs are not parsed")
            time.sleep(0.5)
        return api

    def _ingest(self, api: airflow.Api) -> None:
        from sampan.contracts.registry import all_contracts

        contracts = all_contracts().values()
        # What is asked of an API about another feed's rows can be asked once they are there.
        after = {contract.feed for contract in contracts if contract.source.asks_about}
        for title, chosen in (
            ("ingest of the feeds", [contract for contract in contracts if contract.feed not in after]),
            ("ingest of what is asked about them", [contract for contract in contracts if contract.feed in after]),
        ):
            self._run_dags(api, [f"ingest__{contract.feed}" for contract in chosen], title)

    def _set_clock(self) -> None:
        """Set the clock to noon of the business day after the window: no delivery comes later.

        APIs are asked as of that day, whether the demo or the schedule asks, and freshness is judged then.
        """
        noon = datetime.combine(next(islice(business_days(START), self.days, None)), time_of_day(12), HONG_KONG)
        with psycopg.connect(self.stack.dsn("sampan_loader")) as connection:
            connection.execute("delete from ops.clock")
            connection.execute("insert into ops.clock (stands_at) values (%s)", [noon])
        self._say(f"the clock stands at {noon:%F %R}; `sampan calendar clock` turns it back to now")

    def _run_dags(self, api: airflow.Api, dag_ids: Iterable[str], title: str) -> None:
        """Trigger a run of each DAG and wait for all of them.

        A run whose one failed task is `notify_owner` did its work: it held a delivery, and says so.
        """
        for dag_id in dag_ids:
            body = {"dag_run_id": self.run_id, "logical_date": None}
            try:
                api.call("POST", f"dags/{dag_id}/dagRuns", body)
            except airflow.ApiError as error:
                # Asked twice because the first answer was lost: the run is there.
                if " 409 " not in str(error):
                    raise
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[now]}"), TimeElapsedColumn())
        with Progress(*columns, console=self.console) as progress:
            bar = progress.add_task(title, total=None, now="")
            while True:
                tasks = self._tasks(api, dag_ids)
                ended = [task for task in tasks if task["state"] in DONE]
                running = sorted({task["task_id"] for task in tasks if task["state"] == "running"})
                progress.update(bar, total=len(tasks) or None, completed=len(ended), now=", ".join(running)[:48])
                if tasks and len(ended) == len(tasks):
                    progress.update(bar, now="")
                    break
                time.sleep(1)
        failed = [task for task in tasks if task["state"] == "failed" and task["task_id"] != "notify_owner"]
        if failed:
            raise StackError("\n".join(self._why(task) for task in failed))
        held = [task["dag_id"] for task in tasks if task["state"] == "failed"]
        if held:
            self._say(f"deliveries were held, with word for their owners in ops.alert: {', '.join(sorted(held))}")

    def _tasks(self, api: airflow.Api, dag_ids: Iterable[str]) -> list[dict[str, Any]]:
        query = {"dag_ids": list(dag_ids), "dag_run_ids": [self.run_id], "page_limit": 500}
        found: list[dict[str, Any]] = api.call("POST", "dags/~/dagRuns/~/taskInstances/list", query)["task_instances"]
        return found

    def _why(self, task: dict[str, Any]) -> str:
        """The task that failed, the last error of its log, and where that is."""
        parts = f"dag_id={task['dag_id']}", f"run_id={task['dag_run_id']}", f"task_id={task['task_id']}"
        log = self.stack.config.state.joinpath("airflow", "logs", *parts, f"attempt={task['try_number']}.log")
        return f"{task['dag_id']}.{task['task_id']} failed: {_last_error(log)}\n  {log}"

    def outcome(self) -> Outcome:
        """What is in the ledger, and what the readers' role sees."""
        sums = sql.SQL(", ").join(sql.SQL("coalesce(sum({0}), 0)::bigint").format(sql.Identifier(c)) for c in COUNTS)
        query = sql.SQL("select feed, count(*), {} from ops.batch group by feed order by feed").format(sums)
        with psycopg.connect(self.stack.dsn("sampan_loader")) as connection:
            feeds = connection.execute(query).fetchall()
            newest = connection.execute(
                "select release_no, rows from ops.release_activation join ops.release using (release_no)"
                " order by activation_no desc limit 1"
            ).fetchone()
        number, rows = newest or (None, {})
        return Outcome(feeds, sorted(rows.items()), number)

    def _show(self, outcome: Outcome) -> None:
        feeds = Table("feed", title="What came in")
        for heading in ("batches", *COUNTS):
            feeds.add_column(heading.replace("rows_", ""), justify="right")
        for feed, *counts in outcome.feeds:
            feeds.add_row(feed, *(f"{count:,}" for count in counts))
        feeds.add_section()
        feeds.add_row("all", *(f"{sum(row[place] for row in outcome.feeds):,}" for place in range(1, 6)))
        marts = Table("family", "mart", title=f"What came out: release {outcome.release}")
        marts.add_column("rows", justify="right")
        families = {path.stem: path.parent.name for path in (HOME / "dbt_project" / "models").rglob("*.sql")}
        for family, members in groupby(
            sorted(outcome.marts, key=lambda row: families[row[0]]), lambda row: families[row[0]]
        ):
            marts.add_section()
            for place, (mart, rows) in enumerate(members):
                marts.add_row("" if place else family, mart, f"{rows:,}")
        where = Table.grid(padding=(0, 2))
        where.add_row("Airflow", f"{airflow.address(self.stack.config)}  user {airflow.USER}")
        where.add_row("its password", str(self.stack.config.env_file))
        where.add_row("BI tools", "make dsn")
        where.add_row("broken now", ".venv/bin/sampan status")
        where.add_row("stop", "make down")
        for part in (feeds, marts, self._answer(EXAMPLE, "Where small exporters sell most"),
                     self._answer(BROKEN, "What is broken"), where):  # fmt: skip
            self.console.print()
            self.console.print(part)
        self.console.print(f'\nthe example again:\nmake psql SQL="{EXAMPLE}"', soft_wrap=True, highlight=False)

    def _answer(self, query: LiteralString, title: str) -> Table:
        """The answer to a query, as the readers' role gets it."""
        with psycopg.connect(self.stack.dsn("bi_reader")) as connection:
            cursor = connection.execute(query)
            table = Table(*(column.name for column in cursor.description or ()), title=title)
            for row in cursor:
                table.add_row(*(f"{value:,}" if isinstance(value, int | Decimal) else str(value) for value in row))
        return table

    def _say(self, line: str) -> None:
        self.console.print(f"[dim]{line}[/]", highlight=False)


def _last_error(log: Path) -> str:
    """The last exception in a task's log, which is one JSON object per line."""
    try:
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    except (OSError, ValueError):
        return "its log cannot be read"
    for line in reversed(lines):
        for detail in line.get("error_detail") or ():
            return f"{detail['exc_type']}: {detail['exc_value']}"
    return "its log names no exception"
