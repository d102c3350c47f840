"""Work in processes of its own, copies of this one, that a test kills, stops or races."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable

from sampan.errors import TransientFailure
from sampan.settings import settings

# How they end. LATER is a transient failure, as of one that lost a batch to another; BROKEN is a fault.
DONE, LATER, BROKEN, KILLED = 0, 75, 1, -signal.SIGKILL


def begins(work: Callable[[], object]) -> int:
    """Begin the work; the number of its process."""
    child = os.fork()
    if child:
        return child
    code = BROKEN
    try:
        settings.cache_clear()
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        work()
        code = DONE
    except TransientFailure:
        code = LATER
    finally:
        os._exit(code)


def ends(processes: Iterable[int]) -> list[int]:
    """Wait for them; how each ended."""
    return [os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) for number in processes]


def killed_after(seconds: float, work: Callable[[], object]) -> int:
    """Do the work, and kill it after some time; how it ended."""
    process, deadline = begins(work), time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(process, signal.SIGKILL)
    return ends([process])[0]
