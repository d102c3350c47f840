"""Spark builds the marts of the tests' world as PostgreSQL does: on a cluster that loses a worker, with builders that are
killed, and one business date after the history. All values are synthetic."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import psutil
import psycopg
import pytest
from sampan.calendar import business_days
from sampan.contracts.registry import all_contracts
from sampan.engine.spark import INSTALLED, Spark
from sampan.governance import transfer
from sampan.ingest import freshness
from sampan.marts import build, release
from sampan.settings import settings

from infra.simulator.deliver import FEEDS
from infra.simulator.world import Period
from tests.integration.marts.test_engines import builds_the_same, copied
from tests.integration.published import publish_frame, stored
from tests.integration.world import RECEIVED, Simulated

pytestmark = [
    pytest.mark.xdist_group("world"),
    pytest.mark.slow,
    pytest.mark.spark,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(not INSTALLED.exists(), reason="Spark is not installed: `make spark` makes .venv-spark"),
]
# On one machine; few rows need few tasks, plans that are not printed, and a metastore that may not survive a power cut.
# One session serves a whole build: what it compiles is more than the 48 MB that the first tier of the compiler gets.
PROPERTIES = """
spark.driver.host 127.0.0.1
spark.driver.bindAddress 127.0.0.1
spark.executor.memory 1g
spark.driver.defaultJavaOptions -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -Dderby.system.durability=test
spark.executor.defaultJavaOptions -XX:TieredStopAtLevel=1
spark.sql.shuffle.partitions 2
spark.sql.adaptive.enabled false
spark.sql.maxPlanStringLength 1000
spark.sql.codegen.wholeStage false
spark.sql.codegen.factoryMode NO_CODEGEN
spark.sql.sources.parallelPartitionDiscovery.threshold 1000
"""
# Seconds in which all processes of a session end with its builder.
SOON = 5
# It shows no month of fewer than 20 funded enterprises, and the gate would refuse it; the world has hundreds in all.
EMPTY = {"mart_funding_outcome_months"}
SHARED, RECIPIENT = "mart_published_traders", "Shenzhen Credit Service"


def test_spark_builds_the_marts_that_postgresql_built_with_a_lost_worker_and_killed_builders(
    world: Simulated, models_only: None, tmp_path: Path
) -> None:
    conf, folder = tmp_path / "properties", tmp_path / "spark"
    conf.write_text(PROPERTIES)
    with world.installed(), a_day_later(world, tmp_path / "postgres"), cluster(folder) as (master, workers):

        def kill_builders(is_full: bool) -> None:
            if is_full:
                # Of a table that is not made yet: what a killed writer leaves, when it is killed in the worst moment.
                half = folder / "spark" / "warehouse" / "intermediate.db" / "int_trade__monthly" / "_temporary" / "0"
                half.mkdir(parents=True)
            for number in (signal.SIGKILL,) if is_full else (signal.SIGTERM, signal.SIGINT):
                ends_with_its_builder(folder, "intermediate", number)

        with lost(workers, folder / "dbt" / "marts__insurance" / "run") as killed:
            builds_the_same(
                "spark", world.last, 5, folder, has_unit_tests=True, before=kill_builders,
                SAMPAN_SPARK_MASTER=master, SAMPAN_SPARK_CONF=str(conf),
            )  # fmt: skip
        assert len(killed) == 2


@contextmanager
def a_day_later(world: Simulated, folder: Path) -> Iterator[None]:
    """A copy of the world, installed, into which the business date after its last one has come, and was released."""
    day = next(business_days(world.last + timedelta(days=1)))
    period = Period(day, world.last + timedelta(days=1))
    truth = replace(world.truth, schedule=[*world.truth.schedule, period], kept={}).part(day, day)
    received, judged_at = datetime.combine(day + timedelta(days=1), RECEIVED), world.judged_at + (day - world.last)
    folder.mkdir()
    with copied(folder) as dsn:
        freshness.set_clock(judged_at)
        share_something(world.last, folder)
        for feed, maker in FEEDS.items():
            for _, frame in maker(truth):
                if frame is not None:
                    publish_frame(feed, day, stored(feed, frame), received)
        rates = world.frames["hkma_exchange_rates"].drop("business_date").sort("end_of_day").tail(1)
        publish_frame("hkma_exchange_rates", day, rates.with_columns(pl.lit(day).alias("end_of_day")), received)
        for feed in all_contracts():
            freshness.record_poll(feed, at=judged_at)
        build.run()
        release.gate()
        released = release.run()["release_no"]
        with psycopg.connect(dsn) as connection:
            query = "select full_refresh from ops.build order by build_no desc limit 1"
            assert connection.execute(query).fetchall() == [(False,)]
            # Two that are empty would be equal in any case.
            assert empty_marts(connection, released) == EMPTY
        yield


def share_something(day: date, folder: Path) -> None:
    """Let a published table go to a recipient, as no delivery says."""
    agreement = transfer.TransferAgreement(
        "GBASC-1", RECIPIENT, "Shenzhen", None, "credit assessment", [SHARED], day - timedelta(days=30),
        day + timedelta(days=300), "PIA-1", day - timedelta(days=40), day - timedelta(days=25),
    )  # fmt: skip
    transfer.register_agreement(agreement, "officer")
    transfer.share(SHARED, RECIPIENT, agreement.contract_no, str(folder / "shared.csv"), "officer")


def empty_marts(connection: psycopg.Connection, release_no: int) -> set[str]:
    """The marts of a release that have no row."""
    query = """
        select c.oid::regclass::text, relname from pg_class as c
        where relnamespace = %s::regnamespace and relkind in ('r', 'v')
    """
    marts = connection.execute(query, [f"release_{release_no}"]).fetchall()
    assert len(marts) > 50
    return {name for table, name in marts if not connection.execute(f"select from {table} limit 1").fetchall()}


@contextmanager
def cluster(state: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Spark's own cluster: its address, and two workers with a processor and a GiB each."""
    state.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAMPAN_STATE", str(state))
        settings.cache_clear()
        # The secret that its programs ask each other for.
        environment = (
            os.environ | Spark().environment() | {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m"}
        )
    settings.cache_clear()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address = f"spark://127.0.0.1:{port}"
    of_all = ["--host", "127.0.0.1", "--webui-port", "0"]
    started = [_daemon(state, environment, "master.Master", *of_all, "--port", port)]
    try:
        for _ in range(2):
            place = ["--work-dir", str(state / "work"), "--cores", "1", "--memory", "1g"]
            started.append(_daemon(state, environment, "worker.Worker", *of_all, *place, address))
        yield address, started[1:]
    finally:
        for daemon in started:
            _kill_all(daemon)


def _daemon(state: Path, environment: Mapping[str, str], kind: str, *options: str) -> subprocess.Popen[bytes]:
    command = [INSTALLED / "spark" / "bin" / "spark-class", f"org.apache.spark.deploy.{kind}", *options]
    with (state / f"{kind}.log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def _kill_all(daemon: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(daemon.pid, signal.SIGKILL)
    daemon.wait()


@contextmanager
def lost(workers: list[subprocess.Popen[bytes]], when: Path) -> Iterator[list[int]]:
    """Kill one of two workers, with its executor, when a file is there: the list then has the numbers of both."""
    killed: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5) and not killed:
            executors = psutil.Process(workers[0].pid).children()
            if executors and when.exists():
                killed.extend([workers[0].pid, executors[0].pid])
                _kill_all(workers[0])

    with ThreadPoolExecutor() as pool:
        watching = pool.submit(watch)
        try:
            yield killed
        finally:
            over.set()
        watching.result()


def ends_with_its_builder(state: Path, step: str, number: signal.Signals) -> None:
    """Kill a builder in the middle of a step; soon nothing of its session is left."""
    began, run = time.time(), state / "dbt" / step / "run"
    log = (state / "killed.log").open("ab")
    with log, subprocess.Popen([sys.executable, "-m", "sampan.cli", "build"], stdout=log, stderr=log) as builder:
        while sum(file.stat().st_mtime > began for file in run.rglob("*.sql")) < 3:
            assert builder.poll() is None, (state / "killed.log").read_text()
            time.sleep(0.1)
        session = of_session(state)
        # Keeper, worker and Java.
        assert len(session) >= 3, session
        builder.send_signal(number)
        builder.wait()
    until = time.monotonic() + SOON
    while (left := of_session(state)) and time.monotonic() < until:
        time.sleep(0.1)
    assert left == {}


def of_session(state: Path) -> dict[int, str]:
    """The processes of a session and its executors, by number: what names the engine's folder, but for the cluster's own."""
    commands = {process.pid: " ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])}
    return {
        number: command
        for number, command in commands.items()
        if str(state / "spark") in command and ".deploy.master." not in command and ".deploy.worker." not in command
    }
