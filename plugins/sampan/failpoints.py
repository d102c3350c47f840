"""Named places at which a test may kill the process, to prove that any step may die at any instruction."""

from __future__ import annotations

import os
import signal


def hit(name: str) -> None:
    """Kill this process with SIGKILL when the environment's SAMPAN_FAILPOINT names this place."""
    if os.environ.get("SAMPAN_FAILPOINT") == name:
        os.kill(os.getpid(), signal.SIGKILL)
