"""Programs of the library in processes that are forked from one that has imported it: see preloaded.py."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.preloaded", "tests.forked"])
COMMAND = "from sampan.cli import app; app.main()"


def run(
    arguments: list[str], environment: Mapping[str, str], folder: Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run the `sampan` command, or with `-c` some code, in `folder` and with no other environment than that.

    Raises TimeoutExpired after `timeout` seconds.
    """
    with tempfile.TemporaryDirectory() as written:
        process = PROCESSES.Process(target=_main, args=(arguments, dict(environment), folder, Path(written)))
        process.start()
        process.join(timeout)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments, timeout)
        process.close()
        out, err = ((Path(written) / name).read_text() for name in ("out", "err"))
        return subprocess.CompletedProcess(arguments, code, out, err)


def _main(arguments: list[str], environment: Mapping[str, str], folder: Path, written: Path) -> None:
    for descriptor, name in enumerate(("out", "err"), 1):
        os.dup2(os.open(written / name, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    if "SAMPAN_HOME" in environment:
        # The library finds its home when it is imported.
        for name in [name for name in sys.modules if name.partition(".")[0] == "sampan"]:
            del sys.modules[name]
    code = arguments[1] if arguments[0] == "-c" else COMMAND
    sys.argv = ["sampan", *arguments]
    try:
        exec(code, {"__name__": "__main__"})
    except Exception:  # noqa: BLE001 - as the interpreter would at its end
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
