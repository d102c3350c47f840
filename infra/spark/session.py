"""dbt with a session of Spark that stays from one step of a build to the next: to start one takes longer than most steps.

Runs in .venv-spark, as two processes. The worker has dbt and Spark, and Spark's Java and executors are its children. Its
keeper has the connection to the builder, passes on a line of JSON each way for each command, and sees to the end of all of
them: at once when the builder dies, in order when it says so. A builder that leaves the session to the next step says that,
too; the keeper then waits for it at a socket in the folder of the engine.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2] / "plugins"))

from sampan.processes import adopt_orphans, end_with

# Last words of a builder.
LEAVE, END = b'"leave"\n', b'"end"\n'
DOOR = "session.socket"
# Seconds in which Spark ends in order, or is killed.
LONGEST_END = 30


class Worker:
    """Parses the project once for each builder. `folder` is the engine's, `of` says what Spark was started with."""

    def __init__(self, folder: Path, of: str) -> None:
        self._folder = folder
        self._of = of
        self._manifest: Any = None
        self._spark: Any = None

    def work(self, connection: socket.socket) -> None:
        """Answer until nothing more is asked."""
        with connection.makefile("r", encoding="utf-8") as asks:
            for line in asks:
                connection.sendall(json.dumps(self._answer(json.loads(line))).encode() + b"\n")
        self._close()

    def _answer(self, ask: dict[str, Any]) -> dict[str, Any]:
        """Run the SQL or the command of dbt that is asked for; whether it succeeded, and why not."""
        try:
            if "joins" in ask:
                # Its project may be another one by now.
                self._manifest = None
                return {"is_done": ask["joins"] == self._of, "said": ""}
            os.environ.update(ask["environment"])
            return self._sql(ask["statements"]) if "statements" in ask else self._dbt(ask["command"], ask["options"])
        except Exception as error:  # noqa: BLE001
            return {"is_done": False, "said": f"{type(error).__name__}: {error}"}

    def _start(self) -> None:
        """Start Spark, once. dbt has the same session."""
        from pyspark.sql import SparkSession

        if self._spark is None:
            spark = SparkSession.builder.enableHiveSupport().getOrCreate()
            # A table whose writer was killed has left its folder, into which Spark writes no other.
            for table in (self._folder / "warehouse").glob("*.db/*"):
                if not spark.catalog.tableExists(f"{table.parent.name.removesuffix('.db')}.{table.name}"):
                    shutil.rmtree(table)
            self._spark = spark

    def _sql(self, statements: list[str]) -> dict[str, Any]:
        self._start()
        for statement in statements:
            self._spark.sql(statement)
        return {"is_done": True, "said": ""}

    def _dbt(self, command: list[str], options: list[str]) -> dict[str, Any]:
        from dbt.cli.main import dbtRunner

        if self._manifest is None or command == ["parse"]:
            parsed = dbtRunner().invoke(["parse", *options])
            if not parsed.success:
                return {"is_done": False, "said": str(parsed.exception)}
            self._manifest = parsed.result
        if command == ["parse"]:
            return {"is_done": True, "said": ""}
        self._start()
        done = dbtRunner(manifest=self._manifest).invoke([*command, *options])
        return {"is_done": done.success, "said": str(done.exception or "")}

    def _close(self) -> None:
        """End Spark and wait until its Java has: it holds the metastore."""
        from pyspark import SparkContext

        if gateway := SparkContext._gateway:
            self._spark.stop()
            gateway.shutdown()
            gateway.proc.stdin.close()
            gateway.proc.wait()


class Keeper:
    """Has the connections to the builder of now and to the worker. It hangs up when all has ended."""

    def __init__(self, builder: socket.socket, worker: socket.socket) -> None:
        self._builder = builder
        self._worker = worker
        self._answers = worker.makefile("rb")

    def keep(self, idle: float) -> bool:
        """Let builders talk to the worker, one after the other. Returns when one says that it is over, or none comes for
        `idle` seconds; False when a builder or the worker died."""
        while (word := self._serve()) == LEAVE:
            self._builder.close()
            if not self._wait(idle):
                return True
        return word == END

    def _serve(self) -> bytes:
        """Pass on what is asked and answered. Returns the builder's last word; empty when one of the two died, or the builder
        does not wait for an answer."""
        is_asked = False
        with suppress(ConnectionError), self._builder.makefile("rb") as asks:
            while True:
                if self._builder in select.select([self._builder, self._worker], [], [])[0]:
                    line = asks.readline()
                    if is_asked or not line.endswith(b"\n"):
                        return b""
                    if line in (LEAVE, END):
                        return line
                    self._worker.sendall(line)
                    is_asked = True
                else:
                    line = self._answers.readline()
                    if not line:
                        return b""
                    self._builder.sendall(line)
                    is_asked = False
        return b""

    def _wait(self, idle: float) -> bool:
        """Wait for the next builder. False when none comes, or the worker died."""
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(DOOR)
            door.listen(1)
            try:
                came = select.select([door, self._worker], [], [], idle)[0]
                if came == [door]:
                    self._builder = door.accept()[0]
            finally:
                # Who comes later finds the lock held.
                os.unlink(DOOR)
        return came == [door]

    def end(self, worker: int, *, is_orderly: bool) -> None:
        """End the worker, given by its number, and all that it started, and wait until they have."""
        if is_orderly:
            with suppress(OSError):
                self._worker.shutdown(socket.SHUT_WR)
                self._worker.settimeout(LONGEST_END)
                self._worker.recv(1)
        with suppress(ProcessLookupError):
            os.killpg(worker, signal.SIGKILL)
        with suppress(ChildProcessError):
            while True:
                os.wait()


def main(builder_no: str, folder: str, idle: str, of: str) -> None:
    """Become the keeper or its worker. Standard output is the log's: dbt and Java print into it, too."""
    if os.fork():
        # The builder waits for none of them.
        os._exit(0)
    keeper, builder = os.getpid(), socket.socket(fileno=int(builder_no))
    # Of what Spark writes, too: it keeps rows in folders of its own, some of them in the system's temporary folder.
    os.umask(0o077)
    adopt_orphans()
    here, there = socket.socketpair()
    if not (worker := os.fork()):
        os.setpgid(0, 0)
        # Its keeper has one thread.
        end_with(keeper)
        builder.close()
        here.close()
        Worker(Path(folder), of).work(there)
        return
    # Whichever of the two is first.
    os.setpgid(worker, worker)
    there.close()
    os.chdir(folder)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    kept, is_orderly = Keeper(builder, here), False
    try:
        is_orderly = kept.keep(float(idle))
    finally:
        kept.end(worker, is_orderly=is_orderly)


if __name__ == "__main__":
    main(*sys.argv[1:])
