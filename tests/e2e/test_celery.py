"""Celery workers as processes: families of marts side by side on both, and each killed in the middle of a task."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from typing import Any

import psycopg
import pytest
from rich.console import Console

from infra.local import airflow, workers
from infra.local.config import HOME, load
from infra.local.demo import REFRESH, Demo
from infra.local.stack import INIT, Stack
from infra.local.supervise import leftovers
from infra.simulator.orders import Order
from tests.e2e.test_demo import SERVED, planted, stack_of_its_own
from tests.integration.infra.test_stack import MAY_KNOW_WITH_CELERY, secrets_known
from tests.marts import differences, shown

ORDER = Order(seed=26, smes=120, volume=0.3, start=date(2026, 8, 3), days=4, history_from=date(2026, 5, 1))
# In this order: the first while deliveries come in, the second while families of marts are built.
KILLED = {"worker-2": "load", "worker-1": "marts__%"}
COUNTS = ("batches", "rows_published", "rows_quarantined", "rows_duplicate")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not workers.are_installed(), reason="Celery is not installed: `make celery` brings it"),
]


@pytest.fixture
def stack() -> Iterator[Stack]:
    with stack_of_its_own(SAMPAN_AIRFLOW_EXECUTOR="CeleryExecutor") as stack:
        yield stack


def rows(stack: Stack, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Rows of a query on Airflow's metadata."""
    with psycopg.connect(airflow.database(stack.config)) as connection:
        return connection.execute(query, values or None).fetchall()


def kill_in_the_middle_of_a_task(stack: Stack, worker: str, task: str) -> set[tuple[str, str, str]]:
    """SIGKILL every process of a worker, as when its machine is lost, while it runs a task. Returns what it ran.

    The processes are stopped first: a task that is running then is in its middle.
    """
    query = "select dag_id, run_id, task_id from task_instance where state = 'running' and hostname = %s and task_id like %s"
    while True:
        if rows(stack, query, worker, task):
            signal_all(stack, worker, signal.SIGSTOP)
            # What it said before is written down by then.
            time.sleep(1)
            cut_off = set(rows(stack, query, worker, "%"))
            is_in_its_middle = bool(rows(stack, query, worker, task))
            signal_all(stack, worker, signal.SIGKILL if is_in_its_middle else signal.SIGCONT)
            if is_in_its_middle:
                return cut_off
        time.sleep(0.5)


def signal_all(stack: Stack, worker: str, number: signal.Signals) -> None:
    """Send a signal to every process of a worker that is still there."""
    for pid in leftovers(stack.config, worker):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def rebuilt_by_local_executor(stack: Stack) -> Stack:
    """The same stack with LocalExecutor, after a release that it has rebuilt from all of raw."""
    local = Stack(load({"SAMPAN_STATE": str(stack.config.state), "SAMPAN_AIRFLOW_EXECUTOR": "LocalExecutor"}))
    local.up(report=lambda _: None)
    command = [sys.executable, "-m", "sampan.cli", "build", "staging", "--full-refresh"]
    subprocess.run(command, cwd=HOME, env=local.environment(INIT), check=True, capture_output=True)
    api = airflow.Api(local.config)
    api.call("POST", f"dags/{REFRESH}/dagRuns", {"dag_run_id": "rebuilt", "logical_date": None})
    deadline = time.monotonic() + 900
    while (state := api.get(f"dags/{REFRESH}/dagRuns/rebuilt")["state"]) in ("queued", "running"):
        assert time.monotonic() < deadline, state
        time.sleep(1)
    assert state == "success"
    return local


@pytest.mark.timeout(3600)
def test_two_workers_release_what_local_executor_releases_although_each_is_killed_in_a_task(stack: Stack) -> None:
    stack.up(report=lambda _: None)
    assert {name: secrets_known(stack, name) for name in MAY_KNOW_WITH_CELERY} == MAY_KNOW_WITH_CELERY
    cut_off: set[tuple[str, str, str]] = set()

    def kill() -> None:
        for worker, task in KILLED.items():
            cut_off.update(kill_in_the_middle_of_a_task(stack, worker, task))

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    demo = Demo(Console(file=io.StringIO(), width=160), stack, ORDER)
    outcome = demo.run()
    killer.join(1)
    assert not killer.is_alive(), "not every worker was killed"

    query = "select dag_id, run_id, task_id, state, try_number > 1 from task_instance"
    tried_again = {row[:3] for row in rows(stack, query) if row[3:] == ("success", True)}
    assert cut_off <= tried_again
    # By the run of the demo, or by one that the deliveries caused before it: that of the demo then finds nothing to build.
    query = "select hostname, start_date, end_date from task_instance where task_id like %s and hostname <> ''"
    families = rows(stack, query, "marts__%")
    assert {worker for worker, *_ in families} == set(workers.WORKERS)
    assert any(one[0] != other[0] and one[1] < other[2] and other[1] < one[2] for one in families for other in families)

    truth = planted(stack)
    ledger = {feed: counts[:4] for feed, *counts in outcome.feeds if feed not in SERVED}
    assert len(ledger) > 15
    assert ledger == {feed: [counts[name] for name in COUNTS] for feed, counts in truth.items()}
    assert outcome.release == 1
    by_celery = shown(stack.dsn("bi_reader"))
    assert sum(by_celery["mart_sme_trade_monthly"].values()) > 0

    local = rebuilt_by_local_executor(stack)
    assert not {name for (name,) in rows(local, "select hostname from task_instance where run_id = 'rebuilt'")} & set(
        workers.WORKERS
    )
    assert Demo(Console(file=io.StringIO()), local, ORDER).outcome().release == 2
    assert differences(by_celery, shown(local.dsn("bi_reader"))) == {}
