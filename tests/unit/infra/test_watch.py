"""The watch of the local stack: when it takes a program that runs for one that hangs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from infra.local import stack as stack_module
from infra.local.config import load
from infra.local.stack import Stack

PATIENCE, PAUSE = 90.0, 10.0


class EndError(Exception):
    """The watch has looked as often as it was to."""


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """Runs the watch for some looks, `apart` seconds from each other. Returns after which it restarted the store."""

    def watch(looks: int, apart: float) -> list[int]:
        now, looked, restarted = 0.0, 0, []

        def sleep(_: float) -> None:
            nonlocal now, looked
            if looked == looks:
                raise EndError
            now, looked = now + apart, looked + 1

        stack = Stack(load({"SAMPAN_STATE": str(tmp_path)}))
        stack.supervisor = SimpleNamespace(
            states=lambda: {"s3": {"now": now, "start": -1000.0, "statename": "RUNNING"}},
            halt=lambda name: restarted.append(looked),
            run=lambda name: None,
        )
        monkeypatch.setattr(stack_module, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: now))
        monkeypatch.setattr(stack, "probe", lambda name: False)
        with pytest.raises(EndError):
            stack.watch(PATIENCE, PAUSE)
        return restarted

    return watch


def test_a_program_that_does_not_answer_for_as_long_as_the_watch_is_patient_is_restarted(watched):
    assert watched(9, PAUSE) == []
    assert watched(10, PAUSE) == [10]


def test_a_machine_that_is_too_busy_for_the_watch_itself_does_not_lose_its_programs_to_it(watched):
    """Kind of fault: a few looks that failed long after each other restarted the database, and with it what was at work."""
    assert watched(3, 60.0) == []
    assert watched(10, 60.0) == [10]
