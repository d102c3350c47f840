"""What processes that this one starts have in common."""

from __future__ import annotations

import ctypes
import os
import signal

# Of Linux: the signal that a process gets when its parent ends, and that it becomes the parent of orphans.
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def end_with(parent: int) -> None:
    """Let this process be killed when its parent, given by its number, ends; now, when it has.

    It is killed when the thread that made it ends, too: for a child that this thread waits for.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Let what a child of this process started become a child of this process when the child ends: so it can wait for all."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
