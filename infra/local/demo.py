"""`make demo`: 29 synthetic months, from the partners' drop prefixes to released marts; `make tick`: the day after."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from sampan.calendar import HONG_KONG
from sampan.contracts.model import Contract
from sampan.contracts.registry import all_contracts

from infra.local import airflow, people
from infra.local.config import HOME, StackError
from infra.local.stack import DELIVER, OPEN_DATA, Stack
from infra.simulator import faults
from infra.simulator.orders import Order, saved

# Chosen so that every question has an answer and all of it takes less than 7 minutes on 2 cores: a history of 29 months in
# deliveries of a quarter, then the business dates of a fortnight one by one.
WORLD = Order(smes=2000, volume=0.2, start=date(2026, 8, 3), days=10, history_from=date(2024, 3, 1), history_months=3)
# APIs that go back 13 months are asked as of these days too.
ASKED_BACK = (date(2024, 8, 30), date(2025, 8, 29))
REFRESH = "refresh_marts"
# Seconds that a refresh of one day may take.
PATIENCE = 900
# Seconds between looks at Airflow, which cost it time that tasks could have.
POLL = 4
# How often an API is asked, and seconds in between: a busy machine takes longer than the stack's watch waits, which then
# starts the simulated APIs again.
ASK_TIMES, ASK_PAUSE = 5, 30
# The code of a failure that says that a delivery is held.
HELD = "[batch.held]"
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

    def __init__(self, console: Console, stack: Stack | None = None, order: Order = WORLD) -> None:
        self.console = console
        # Partners send until the clock's time.
        self.order = replace(order, until=_noon(order.next_date))
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
        before = self.outcome()
        live = saved(self.stack.config.truth) or self.order
        if live.days == self.order.days:
            self._close_history()
            asked = [contract for contract in _served() if not contract.source.asks_about]
            back = [_due(contract, day) for contract in asked for day in ASKED_BACK if day > self._first_day()]
            newest = [
                (contract.feed, faults.due_times(contract.calendar, at - timedelta(days=45), at)[-1])
                for contract in asked
                for at in [self._until(live)]
            ]
            self._ask([*back, *newest])
        self._set_clock(self._until(live))
        api = self._api()
        api.call("PATCH", f"dags/{REFRESH}", {"is_paused": True})
        try:
            self._ingest(api)
        finally:
            api.call("PATCH", f"dags/{REFRESH}", {"is_paused": False})
        self._run_dags(api, [REFRESH], "refresh of the marts")
        with self._installed():
            others = {name: entry["login_password"] for name, entry in self.stack.superset.people().items()}
            people.add(self.stack.config, others)
        after = self.outcome()
        self._show(after)
        if after == before:
            self.console.print("\nNothing was new: the ledger and the release are what they were before.")
        self.console.print(f"\ndone in {time.monotonic() - begun:.0f} s")
        return after

    def tick(self) -> Outcome:
        """The next business day begins: partners deliver, APIs are asked, the clock goes forward, and Airflow does the rest.

        Airflow's timetables follow the real clock, so the ingest of the feeds that are due by the demo's is started here;
        the refresh of the marts follows by Airflow's own schedule, from what was published.

        Raises:
            StackError: there is no demo to go on from, or a program or a task failed.
        """
        begun, since = time.monotonic(), datetime.now().astimezone()
        self.stack.up(report=self._say)
        before = saved(self.stack.config.truth)
        if before is None or before.until is None:
            raise StackError("there is no demo to go on from: run `make demo` first")
        order = replace(before, days=before.days + 1)
        after, until = self._until(before), _noon(order.next_date)
        _Partners(self, ["next", f"{until:%Y-%m-%d %H:%M}"]).wait_for_it()
        due = {
            contract.feed: faults.due_times(contract.calendar, after, until) for contract in all_contracts().values()
        }
        self._ask([(contract.feed, at) for contract in _served() for at in due[contract.feed]])
        self._set_clock(until)
        api, release = self._api(), self.outcome().release
        # What partners send for a day comes on the next one; late ones come with the feed's next.
        feeds = [feed for feed, times in due.items() if times]
        self._run_dags(api, [f"ingest__{feed}" for feed in feeds], f"{order.last}: ingest of {len(feeds)} feeds")
        outcome = self._await_refresh(api, release, since)
        self.console.print(
            f"{order.last}: release {outcome.release}, {sum(rows for _, rows in outcome.marts):,} rows in marts,"
            f" {sum(row[-1] for row in outcome.feeds):,} rows held; {time.monotonic() - begun:.0f} s"
        )
        return outcome

    def _await_refresh(self, api: airflow.Api, release: int | None, since: datetime) -> Outcome:
        """Wait until Airflow's schedule has built and released all that was published; only runs since a time count."""
        deadline = time.monotonic() + PATIENCE
        while True:
            runs = api.get(f"dags/{REFRESH}/dagRuns?order_by=-run_after&limit=5")["dag_runs"]
            runs = [run for run in runs if datetime.fromisoformat(run["run_after"]) >= since]
            failed = [run for run in runs[:1] if run["state"] == "failed"]
            if failed:
                self.run_id = failed[0]["dag_run_id"]
                tasks = [task for task in self._tasks(api, [REFRESH]) if task["state"] == "failed"]
                raise StackError("\n".join(self._why(task) for task in tasks) or f"{REFRESH} failed")
            busy = any(run["state"] in ("queued", "running") for run in runs)
            if not (busy or self._waits()) and (outcome := self.outcome()).release != release:
                return outcome
            if time.monotonic() > deadline:
                raise StackError(
                    f"no release after {PATIENCE} s; see {REFRESH} at {airflow.address(self.stack.config)}"
                )
            time.sleep(POLL)

    def _waits(self) -> bool:
        """Whether a published batch waits for a build."""
        with psycopg.connect(self.stack.dsn("sampan_loader")) as connection:
            return connection.execute("select from ops.batches_waiting limit 1").fetchone() is not None

    def _bring_up(self) -> None:
        """The stack; the partners deliver while Airflow starts, since they need only the object store."""
        stores = ["postgres"] if self.stack.config.external_s3 else ["postgres", "s3"]
        self.stack.up([*stores, OPEN_DATA], self._say)
        order = self.order
        options = {
            "seed": order.seed,
            "smes": order.smes,
            "start": order.start,
            "days": order.days,
            "volume": order.volume,
            "until": f"{order.until:%Y-%m-%d %H:%M}",
        }
        if order.history_from:
            options |= {"history": order.history_from, "history-months": order.history_months}
        command = ["deliver", *(f"--{name}={value}" for name, value in options.items())]
        self._say(f"simulated partners of {order.smes} SMEs deliver until {order.last}")
        partners = _Partners(self, command)
        self.stack.up(report=self._say)
        partners.wait_for_it()

    def _first_day(self) -> date:
        return self.order.history_from or self.order.start

    def _until(self, order: Order) -> datetime:
        return order.until or _noon(order.next_date)

    def _ask(self, times: Iterable[tuple[str, datetime]]) -> None:
        """Ask APIs as of days, with the clock at the time when each was due, as the schedule would have asked."""
        from sampan.ingest import freshness

        with self._installed():
            for feed, at in sorted(times, key=lambda asked: asked[1]):
                self._say(f"{feed} is asked as of {at:%F}")
                freshness.set_clock(at)
                ask(feed, at.date())

    @contextmanager
    def _installed(self) -> Iterator[None]:
        """This stack's installation as the one that the library works on."""
        from sampan.settings import settings

        known = os.environ.get("SAMPAN_STATE")
        os.environ["SAMPAN_STATE"] = str(self.stack.config.state)
        settings.cache_clear()
        try:
            yield
        finally:
            os.environ.pop("SAMPAN_STATE")
            if known is not None:
                os.environ["SAMPAN_STATE"] = known
            settings.cache_clear()

    def _close_history(self) -> None:
        """Let nothing be due on days that a delivery of the history covers without being of them."""
        if self.order.history_from is None:
            return
        from sampan.ingest import freshness

        reason, by = "the history comes in deliveries of several months", "demo"
        history = [period for period in self.order.schedule() if period.serial is None]
        ends, count = {period.business_date for period in history}, (self.order.start - self.order.history_from).days
        days = [self.order.history_from + timedelta(days=step) for step in range(count)]
        with self._installed():
            freshness.close([day for day in days if day not in ends], reason, by)
            for contract in all_contracts().values():
                calendar = contract.calendar
                if calendar.days == "weekly" and contract.source.kind == "s3":
                    due = [day for day in days if day.isoweekday() == calendar.day]
                    listed = {max(set(due) & set(period.days)) for period in history}
                    freshness.close([day for day in due if day not in listed], reason, by, contract.feed)

    def _api(self) -> airflow.Api:
        """Airflow's API, once the scheduler knows every DAG that the contracts and the folder `dags` define."""
        wanted = {REFRESH, *(f"ingest__{feed}" for feed in all_contracts())}
        api, deadline = airflow.Api(self.stack.config), time.monotonic() + 90
        while wanted - {dag["dag_id"] for dag in api.get("dags?limit=500")["dags"]}:
            errors = api.get("importErrors")["import_errors"]
            if errors or time.monotonic() > deadline:
                raise StackError("\n".join(error["stack_trace"] for error in errors) or "the DAGs are not parsed")
            time.sleep(0.5)
        return api

    def _ingest(self, api: airflow.Api) -> None:
        contracts = all_contracts().values()
        # What is asked of an API about another feed's rows can be asked once they are there.
        after = {contract.feed for contract in contracts if contract.source.asks_about}
        for title, chosen in (
            ("ingest of the feeds", [contract for contract in contracts if contract.feed not in after]),
            ("ingest of what is asked about them", [contract for contract in contracts if contract.feed in after]),
        ):
            self._run_dags(api, [f"ingest__{contract.feed}" for contract in chosen], title)

    def _set_clock(self, at: datetime) -> None:
        """Set the clock, to noon of the business day after the last one delivered.

        APIs are asked as of that day, whether the demo or the schedule asks, and freshness is judged then.
        """
        from sampan.ingest import freshness

        with self._installed():
            freshness.set_clock(at)
        self._say(f"the clock stands at {at:%F %R}; `sampan calendar clock` turns it back to now")

    def _run_dags(self, api: airflow.Api, dag_ids: Iterable[str], title: str) -> None:
        """Trigger a run of each DAG and wait for all of them.

        A task that failed because a delivery was held did its work, and `notify_owner` fails after it.
        """
        # Airflow's home page counts only runs with a logical date.
        at = datetime.now().astimezone().isoformat()
        for dag_id in dag_ids:
            body = {"dag_run_id": self.run_id, "logical_date": at}
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
                time.sleep(POLL)
        red = [task for task in tasks if task["state"] == "failed"]
        held = {task["dag_id"] for task in red if HELD in self._why(task)}
        failed = [task for task in red if HELD not in self._why(task) and task["task_id"] != "notify_owner"]
        if failed:
            raise StackError("\n".join(self._why(task) for task in failed))
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
        for part in (feeds, marts, self._answer(EXAMPLE, "Where small exporters sell most"),
                     self._answer(BROKEN, "What is broken")):  # fmt: skip
            self.console.print()
            self.console.print(part)
        self.console.print(f'\nthe example again:\nmake psql SQL="{EXAMPLE}"', soft_wrap=True, highlight=False)
        pages = self.stack.config.state / "reports" / f"release_{outcome.release}" / "en" / "index.html"
        self.console.print(f"\nthe answers as pages:\nfile://{pages}\n", soft_wrap=True, highlight=False)
        self.console.print(doors(self.stack))
        self.console.print("passwords: make logins    dashboards: make bi    stop: make down", highlight=False)

    def _answer(self, query: LiteralString, title: str) -> Table:
        """The answer to a query, as the readers' role gets it."""
        with psycopg.connect(self.stack.dsn("bi_reader")) as connection:
            cursor = connection.execute(query)
            # A name that does not fit is folded, not cut.
            columns = [Column(column.name, overflow="fold") for column in cursor.description or ()]
            table = Table(*columns, title=title)
            for row in cursor:
                table.add_row(*(f"{value:,}" if isinstance(value, int | Decimal) else str(value) for value in row))
        return table

    def _say(self, line: str) -> None:
        self.console.print(f"[dim]{line}[/]", highlight=False)


def ask(feed: str, day: date, pause: float = ASK_PAUSE) -> None:
    """Ask an API as of a day, again after `pause` seconds when a retry may help, as a task of Airflow would.

    Raises StackError when it does not answer, or answers what it should not.
    """
    from sampan.errors import SampanError, TransientFailure
    from sampan.ingest import fetch
    from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_fixed

    again = retry(
        retry=retry_if_exception_type(TransientFailure), stop=stop_after_attempt(ASK_TIMES), wait=wait_fixed(pause),
        reraise=True,
    )  # fmt: skip
    try:
        again(fetch.run)(feed, day)
    except SampanError as error:
        raise StackError(f"{feed} could not be asked as of {day}: {error}; run the same command again") from error


def doors(stack: Stack, *, passwords: bool = False) -> Table:
    """Where each person of the demo looks, with which login; `passwords` shows those too."""
    table = Table("who", "where", "login", title="Where to look")
    if passwords:
        table.add_column("password")
    config = stack.config
    rows = [
        (person.comes_for, "make dsn, make bi" if person.writes_sql else config.desk_url, person.login, person.password)
        for person in people.known(config.state).values()
    ]
    engineer = "engineer on call: what is red, required actions"
    rows.insert(0, (engineer, airflow.address(config), airflow.USER, config["SAMPAN_AIRFLOW_PASSWORD"]))
    for row in rows:
        table.add_row(*row[: len(table.columns)])
    return table


class _Partners:
    """The simulated partners at work, with their log."""

    def __init__(self, demo: Demo, arguments: Iterable[str]) -> None:
        self.demo, self.log = demo, demo.stack.config.logs / "deliver.log"
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "infra.simulator", *arguments],
                cwd=HOME,
                env=demo.stack.environment(DELIVER),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )

    def wait_for_it(self) -> None:
        """Wait until they are done. Raises StackError when they failed."""
        if self.process.wait() != 0:
            raise StackError(f"the simulated partners failed; see {self.log}")
        self.demo._say(self.log.read_text().rsplit("\r", 1)[-1].strip())


def _noon(day: date) -> datetime:
    return datetime.combine(day, time_of_day(12), HONG_KONG)


def _served() -> list[Contract]:
    """The contracts of the feeds that are asked from an API."""
    return [contract for contract in all_contracts().values() if contract.source.kind == "api"]


def _due(contract: Contract, day: date) -> tuple[str, datetime]:
    """A feed and the time of a day at which its API is to be asked."""
    return contract.feed, datetime.combine(day, time_of_day.fromisoformat(contract.calendar.due), HONG_KONG)


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
