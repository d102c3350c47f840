"""Named places where a test can kill the process, to prove that a step survives a crash at any point."""

from __future__ import annotations

import os
import signal


def hit(name: str) -> None:
    """Kill this process with SIGKILL when the environment variable SAMPAN_FAILPOINT is `name`."""
    if os.environ.get("SAMPAN_FAILPOINT") == name:
        os.kill(os.getpid(), signal.SIGKILL)
