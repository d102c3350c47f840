"""What processes that this one starts have in common."""

from __future__ import annotations

import ctypes
import os
import signal

# Of Linux: the signal that a process gets when its parent ends.
PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Let this process be killed when its parent, given by its number, ends; now, when it has."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
