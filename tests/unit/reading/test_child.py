"""Work in a child process: its items and errors come back, and it ends within its bounds."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sampan.errors import Code, PermanentFailure, Problem
from sampan.reading import child
from sampan.reading.child import ChildError, iterate

ROOM = 1 << 28


OTHERS: set[str] = set()


def children() -> list[str]:
    """Processes that this one has made and that still run."""
    return subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True).stdout.split()


@pytest.fixture(autouse=True)
def _others() -> None:
    """Programs that other tests of this worker started."""
    OTHERS.update(children())


def running() -> set[str]:
    """The children without the one that asks and those of other tests."""
    return {pid for pid in children() if os.path.exists(f"/proc/{pid}")} - OTHERS


def test_items_come_back_in_order_when_they_are_more_than_a_message_holds():
    items = [(number, "x" * (number % 3000)) for number in range(2000)]
    assert list(iterate(lambda: items, ROOM, 60)) == items


def test_a_failure_comes_back_with_its_problem_after_the_items_before_it():
    problem = Problem(Code.DELIVERY_CORRUPT, "broken", "file", 7)

    def work() -> Iterator[int]:
        yield 1
        raise PermanentFailure(problem)

    items = iterate(work, ROOM, 60)
    assert next(items) == 1
    with pytest.raises(PermanentFailure) as failure:
        next(items)
    assert failure.value.problem == problem
    assert str(failure.value) == str(PermanentFailure(problem))


def test_an_error_that_cannot_be_passed_on_is_named():
    class Panic(BaseException):
        pass

    def work() -> Iterator[int]:
        raise Panic("a value of the delivery")
        yield

    with pytest.raises(ChildError, match=r"^Panic$"):
        list(iterate(work, ROOM, 60))


@pytest.mark.parametrize(
    ("end", "named"),
    [
        (lambda: bytearray(2 * ROOM), "^$"),
        (os.abort, "SIGABRT"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
    ],
    ids=["too-much", "abort", "killed"],
)
def test_it_is_a_lack_of_memory_when_the_child_asks_for_too_much_aborts_or_is_killed(end, named):
    with pytest.raises(MemoryError, match=named):
        list(iterate(lambda: [end()], ROOM, 60))
    assert not running()


@pytest.mark.parametrize("place", ["_run", "_pickled"])
def test_the_child_never_comes_back_when_no_memory_is_left_to_say_so(place, monkeypatch, tmp_path):
    """It would go on as a second parent, in the sessions of the first."""

    def fails(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(child, place, fails)
    here = os.getpid()

    def reads() -> None:
        try:
            list(iterate(lambda: [1 / 0], ROOM, 60))
        finally:
            with (tmp_path / "came back").open("a") as file:
                file.write(f"{os.getpid()}\n")
            if os.getpid() != here:
                os._exit(0)

    with pytest.raises(MemoryError):
        reads()
    assert (tmp_path / "came back").read_text() == f"{here}\n"


@pytest.mark.parametrize("crash", [signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL])
def test_it_is_an_error_of_the_library_when_the_child_crashes(crash):
    """Called too large, a delivery that crashes a library would have its bounds raised, in vain."""
    with pytest.raises(ChildError, match=crash.name):
        list(iterate(lambda: [os.kill(os.getpid(), crash)], ROOM, 60))
    assert not running()


def test_the_child_is_ended_when_it_is_waited_for_too_long():
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        list(iterate(lambda: [time.sleep(600)], ROOM, 0.3))
    assert time.monotonic() - started < 10
    assert not running()


def test_only_waiting_counts_when_the_items_are_worked_on_slowly():
    big = "x" * 300_000
    found = []
    for item in iterate(lambda: itertools.repeat(big, 4), ROOM, 1):
        time.sleep(0.5)
        found.append(item)
    assert found == [big] * 4


def test_the_child_is_ended_when_its_items_are_no_longer_wanted():
    items = iterate(itertools.count, ROOM, 60)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    items.close()
    assert not running()


def test_the_child_is_ended_when_its_parent_is_killed():
    code = (
        "import os, time; from sampan.reading.child import iterate\n"
        "def work():\n"
        "    yield os.getpid()\n"
        "    yield 'x' * 300_000\n"
        "    time.sleep(600)\n"
        "items = iterate(work, 1 << 28, 600)\n"
        "print(next(items), flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        assert os.path.exists(f"/proc/{child}")
        parent.kill()
    for _ in range(100):
        # A process that has ended stays as a zombie until its new parent asks for it.
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or " Z " in state.read_text():
            return
        time.sleep(0.05)
    pytest.fail("the child outlives its parent")
