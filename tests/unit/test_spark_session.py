"""The session of Spark that a builder keeps, with a small program instead of Spark's: what starts, stays and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sampan.engine import spark
from sampan.errors import TransientFailure
from sampan.settings import settings

# Is done with all that it is asked for, and dies of the command `die`.
PROGRAM = """
import json, sys
for line in sys.stdin:
    ask = json.loads(line)
    if ask.get("command") == ["die"]:
        print("out of memory", file=sys.stderr)
        sys.exit(1)
    print(json.dumps({"is_done": True, "said": ""}), flush=True)
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[spark.Spark]:
    """The engine, with Spark's program replaced."""
    program = tmp_path / "session.py"
    program.write_text(PROGRAM)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.setattr(spark, "INSTALLED", tmp_path)
    monkeypatch.setattr(spark, "SESSION", program)
    monkeypatch.setenv("SAMPAN_STATE", str(tmp_path / "state"))
    settings.cache_clear()
    made = spark.Spark()
    yield made
    made.close()
    settings.cache_clear()


def ask(engine: spark.Spark, command: str) -> tuple[bool, str]:
    return engine.run_dbt([command], [], {})


def processes(program: Path) -> list[int]:
    """The processes that run a program."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes()
        except OSError:
            continue
        if str(program).encode() in command.split(b"\0"):
            found.append(int(process.parent.name))
    return found


def test_a_session_stays_from_one_step_to_the_next_until_it_is_closed(engine):
    assert ask(engine, "build") == (True, "")
    (first,) = processes(spark.SESSION)
    # Each step asks for its engine.
    assert ask(spark.Spark(), "build") == (True, "")
    assert processes(spark.SESSION) == [first]
    spark.Spark().close()
    assert processes(spark.SESSION) == []


def test_a_session_that_died_says_why_and_the_next_step_has_another(engine):
    ask(engine, "build")
    is_done, said = ask(engine, "die")
    assert not is_done
    assert said == "Spark's process ended: out of memory"
    assert ask(engine, "build") == (True, "")


def test_a_second_builder_waits_for_the_session_of_the_first(engine, monkeypatch):
    monkeypatch.setattr(spark, "LONGEST_WAIT", 0.2)
    ask(engine, "build")
    with pytest.raises(TransientFailure, match="another builder has a session of Spark"):
        spark.Session(settings().state / "spark", {})
    engine.close()
    spark.Session(settings().state / "spark", {}).close()


def test_a_session_ends_with_its_builder(engine, tmp_path):
    """Kind of fault: one that works on after its builder was killed writes beside the next one."""
    script = f"""if True:
        import sys
        from pathlib import Path
        from sampan.engine import spark
        spark.INSTALLED, spark.SESSION = Path({str(tmp_path)!r}), Path({str(spark.SESSION)!r})
        spark.Spark().run_dbt(["build"], [], {{}})
        print("ready", flush=True)
        input()
    """
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)
    ) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == b"ready\n"
        assert len(processes(spark.SESSION)) == 1
        builder.send_signal(signal.SIGKILL)
    until = time.monotonic() + 10
    while processes(spark.SESSION) and time.monotonic() < until:
        time.sleep(0.05)
    assert processes(spark.SESSION) == []
    # And its lock is free.
    assert ask(engine, "build") == (True, "")
