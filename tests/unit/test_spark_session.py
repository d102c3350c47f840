"""The session of Spark that builders keep, with small modules instead of dbt and Spark: what starts, stays and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sampan.engine import spark
from sampan.errors import TransientFailure
from sampan.settings import HOME, settings

# Is done with all that it is asked for. Its first command starts what is Java here and hears no signal that it can
# ignore; of the command `die` it dies, and `work` takes long.
DBT = """
import os, subprocess, sys, time
from types import SimpleNamespace

java = None

class dbtRunner:
    def __init__(self, manifest=None):
        pass

    def invoke(self, command):
        global java
        java = java or subprocess.Popen(["sh", "-c", "trap '' TERM INT HUP; while :; do sleep 1; done", sys.argv[2]])
        if command[0] == "die":
            print("out of memory", file=sys.stderr, flush=True)
            os._exit(1)
        if command[0] == "work":
            time.sleep(600)
        return SimpleNamespace(success=True, exception=None, result="parsed")
"""
SPARK = """
class SparkContext:
    _gateway = None
"""
SQL = """
from unittest.mock import MagicMock

SparkSession = MagicMock()
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[spark.Spark]:
    """The engine, with dbt and Spark replaced."""
    for module, content in {"dbt/cli/main.py": DBT, "pyspark/__init__.py": SPARK, "pyspark/sql.py": SQL}.items():
        file = tmp_path / "modules" / module
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.setattr(spark, "INSTALLED", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    monkeypatch.setenv("SAMPAN_STATE", str(tmp_path / "state"))
    settings.cache_clear()
    made = spark.Spark()
    yield made
    made.close()
    with made.alone():
        pass
    assert ended()
    settings.cache_clear()


def ask(engine: spark.Spark, command: str = "build") -> tuple[bool, str]:
    return engine.run_dbt([command], [], {})


def running() -> set[int]:
    """The processes of sessions of this test: keeper, worker and Java."""
    folder, found = str(settings().state / "spark").encode(), set()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes().split(b"\0")
        except OSError:
            continue
        if folder in command:
            found.add(int(process.parent.name))
    return found


def ended(within: float = 5) -> bool:
    """Whether no process of a session is left after some seconds."""
    until = time.monotonic() + within
    while running() and time.monotonic() < until:
        time.sleep(0.05)
    return not running()


def builder(tmp_path: Path, *lines: str) -> subprocess.Popen[bytes]:
    """Another process that builds: it says when it has done what it was given."""
    script = [
        "from pathlib import Path; from sampan.engine import spark; from sampan.engine.spark import Spark",
        f"spark.INSTALLED = Path({str(tmp_path)!r})",
        *lines,
    ]
    started = subprocess.Popen(
        [sys.executable, "-c", "\n".join(script)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": f"{tmp_path / 'modules'}{os.pathsep}{HOME / 'plugins'}"},
    )  # fmt: skip
    assert started.stdout is not None
    assert started.stdout.readline() == b"ready\n"
    return started


READY, BUILD, WAIT = "print('ready', flush=True)", "Spark().run_dbt(['build'], [], {})", "input()"
WORK = "Spark().run_dbt(['work'], [], {})"


def test_a_session_stays_from_one_step_to_the_next_until_it_is_closed(engine):
    assert ask(engine) == (True, "")
    first = running()
    assert len(first) == 3
    # Each step asks for its engine.
    assert ask(spark.Spark()) == (True, "")
    assert running() == first
    spark.Spark().close()
    assert ended()


@pytest.mark.parametrize("master", ["local[*]", "spark://spark:7077", "local-cluster[2,1,1024]"])
def test_no_other_user_reads_what_spark_writes_and_none_of_it_stays_elsewhere(master, engine, monkeypatch):
    """Kind of fault: a child that holds rows makes files of its own where it likes, readable as its parent's umask says."""
    monkeypatch.setenv("SAMPAN_SPARK_MASTER", master)
    settings.cache_clear()
    before = os.umask(0o022)
    try:
        ask(engine)
    finally:
        os.umask(before)
    found = running()
    masks = {line for pid in found for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "Umask" in line}
    assert (len(found), masks) == (3, {"Umask:\t0077"})
    folder = settings().state / "spark"
    assert (
        f"spark.local.dir {folder / spark.LOCAL}" in (folder / "conf" / "spark-defaults.conf").read_text().splitlines()
    )


def test_a_session_that_died_says_why_and_the_next_step_has_another(engine):
    ask(engine)
    is_done, said = ask(engine, "die")
    assert not is_done
    assert said == "Spark's process ended: out of memory"
    # And what it had started is gone.
    assert ended()
    assert ask(engine) == (True, "")


def test_a_second_builder_waits_for_the_session_of_the_first(engine, monkeypatch):
    monkeypatch.setattr(spark, "LONGEST_WAIT", 0.5)
    ask(engine)
    with pytest.raises(TransientFailure, match="another builder has a session of Spark"):
        spark.Session(settings().state / "spark", {})
    engine.close()
    spark.Session(settings().state / "spark", {}).close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "doing", [(BUILD, READY, WAIT), (BUILD, READY, WORK)], ids=["between two steps", "in the middle of one"]
)
def test_a_session_ends_with_its_builder(engine, tmp_path, doing, number):
    """Kind of fault: one that works on after its builder was killed writes beside the next one."""
    with builder(tmp_path, *doing) as other:
        assert len(running()) == 3
        other.send_signal(number)
        other.wait()
    assert ended()
    # And its lock is free.
    assert ask(engine) == (True, "")


def test_a_session_outlives_the_thread_that_asked_first(engine):
    """Kind of fault: the death signal of Linux is that of a thread."""
    thread = threading.Thread(target=ask, args=[engine])
    thread.start()
    thread.join()
    first = running()
    time.sleep(0.2)
    assert running() == first
    assert ask(engine) == (True, "")
    assert running() == first


@pytest.mark.parametrize("place", [0, 1], ids=["keeper", "worker"])
def test_nothing_is_left_of_a_session_when_one_of_its_processes_is_killed(engine, place):
    ask(engine)
    keeper, worker, java = sorted(running())
    os.kill([keeper, worker][place], signal.SIGKILL)
    if place == 0:
        # As the Java of Spark does at the end of its input.
        os.kill(java, signal.SIGKILL)
    assert ended()
    is_done, said = ask(engine)
    assert not is_done
    assert said.startswith("Spark's process ended")
    assert ask(engine) == (True, "")


def test_the_next_step_joins_the_session_that_a_step_left(engine, tmp_path):
    with builder(tmp_path, BUILD, "Spark().leave()", READY):
        pass
    left = running()
    assert len(left) == 3
    assert ask(engine) == (True, "")
    assert running() == left
    engine.leave()
    assert ask(engine) == (True, "")
    assert running() == left


def test_a_session_that_was_left_ends_when_no_step_comes(engine, monkeypatch):
    monkeypatch.setattr(spark, "IDLE", 0.5)
    ask(engine)
    engine.leave()
    assert ended()


def test_a_step_with_other_settings_has_a_session_of_its_own(engine, monkeypatch):
    ask(engine)
    engine.leave()
    left = running()
    monkeypatch.setenv("SAMPAN_SPARK_MASTER", "local[1]")
    settings.cache_clear()
    assert ask(engine) == (True, "")
    assert len(running()) == 3
    assert not running() & left


def test_dbt_by_hand_does_not_wait_for_a_session_that_was_left_but_for_a_builder(engine, monkeypatch):
    ask(engine)
    engine.leave()
    with engine.alone():
        assert ended()
    ask(engine)
    monkeypatch.setattr(spark, "LONGEST_WAIT", 0.5)
    with pytest.raises(TransientFailure, match="another builder has a session of Spark"), engine.alone():
        pass


def test_a_session_does_not_answer_another_user_of_the_machine(engine):
    ask(engine)
    engine.leave()
    until, door = time.monotonic() + 5, settings().state / "spark" / spark.DOOR
    while not door.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert door.stat().st_mode & 0o077 == 0
    assert door.parent.stat().st_mode & 0o077 == 0
