"""Work on untrusted bytes in a child process of bounded memory and time, so that a bomb costs one delivery.

The child is a fork: it costs some milliseconds, needs no arguments that can be pickled, and may be made by any worker of
Airflow. It is not a sandbox: it has the rights of its parent.
"""

from __future__ import annotations

import gc
import io
import os
import pickle
import resource
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, TypeVar

from sampan.processes import end_with
from sampan.reading import limits

T = TypeVar("T")
# Signals of a library that went wrong. Others come from a lack of memory: the kernel kills, allocators abort.
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP)
# First byte of a message of the child: items, the error that ended its work, the end of its work.
ITEMS, FAILED, DONE = b"i", b"f", b"d"


class ChildError(Exception):
    """The work in a child process crashed, or raised an error that cannot be passed on; the text names signal or type."""


def iterate(work: Callable[[], Iterable[T]], memory_bytes: int, seconds: float) -> Iterator[T]:
    """The items of `work`, made in a child process.

    Raises what `work` raises (ChildError where that cannot be pickled, and when the child crashes), MemoryError when the
    child takes `memory_bytes` more than this process has or dies otherwise, and TimeoutError when it is waited for longer
    than `seconds` in all.
    """
    parent = os.getpid()
    receiving, sending = Pipe(duplex=False)
    child = os.fork()
    if not child:
        try:
            receiving.close()
            _run(work, sending, memory_bytes, parent)
            os._exit(0)
        finally:
            # With any error, also where no memory is left to say which: in the code and the sessions of its parent, the
            # child would go on as a second one.
            os._exit(1)
    sending.close()
    try:
        yield from _received(receiving, seconds)
    except EOFError:
        status, child = _wait(child), 0
        kind = ChildError if -status in CRASHES else MemoryError
        raise kind(f"the process that reads it ended with {_shown(status)}") from None
    finally:
        receiving.close()
        if child:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            _wait(child)


def _received(receiving: Connection, seconds: float) -> Iterator[Any]:
    left = seconds
    while True:
        # Only waiting counts: the child cannot help how long its items are worked on.
        asked = time.monotonic()
        if not receiving.poll(left):
            raise TimeoutError
        message = receiving.recv_bytes()
        left = max(0.0, left - (time.monotonic() - asked))
        kind, stream = message[:1], io.BytesIO(message)
        stream.seek(1)
        if kind == DONE:
            return
        if kind == FAILED:
            raise pickle.load(stream)  # noqa: S301
        while stream.tell() < len(message):
            yield pickle.load(stream)  # noqa: S301


def _run(work: Callable[[], Iterable[object]], sending: Connection, memory_bytes: int, parent: int) -> None:
    """The life of the child. It may raise MemoryError."""
    message, room = io.BytesIO(ITEMS), 0
    message.seek(0, io.SEEK_END)
    try:
        # Never collect what the parent made: objects of native libraries may crash where their threads do not exist.
        gc.freeze()
        _limit(memory_bytes, parent)
        for item in work():
            pickle.dump(item, message, pickle.HIGHEST_PROTOCOL)
            # The first item is sent at once: the parent can work on it while the others are made.
            if message.tell() > room:
                sending.send_bytes(message.getbuffer())
                message, room = io.BytesIO(ITEMS), limits.BLOCK_BYTES
                message.seek(0, io.SEEK_END)
        last = DONE
    except BaseException as error:  # noqa: BLE001
        last = FAILED + _pickled(error)
    with suppress(BaseException):
        sending.send_bytes(message.getbuffer())
        sending.send_bytes(last)


def _limit(memory_bytes: int, parent: int) -> None:
    # A reader that works on after its parent was killed would keep the parent's session with the server open.
    end_with(parent)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + memory_bytes)
    # A core dump would hold the delivery.
    _lower(resource.RLIMIT_CORE, 0)


def _lower(kind: int, limit: int) -> None:
    hard = resource.getrlimit(kind)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(kind, (limit, limit))


def _pickled(error: BaseException) -> bytes:
    try:
        packed = pickle.dumps(error)
        pickle.loads(packed)  # noqa: S301
    except Exception:  # noqa: BLE001
        return pickle.dumps(ChildError(type(error).__name__))
    return packed


def _wait(child: int) -> int:
    """Exit code of the child, negative for the signal that ended it."""
    with suppress(ChildProcessError):
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return 0


def _shown(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit code {status}"
