"""Spark as the engine: folders of Parquet in the state folder with raw rows, what is derived from them, and the marts.

dbt runs in an environment of its own (`make spark`), with Spark in its process, which stays for all steps of a build. Here,
DuckDB reads and writes the Parquet: rows cross by COPY as with that engine. See ADR 0054.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from psycopg import sql
from typing_extensions import override

from sampan import failpoints
from sampan.contracts.registry import all_contracts
from sampan.database import Connection, scalar
from sampan.engine import postgres
from sampan.engine.duckdb import SOURCES, DuckDB, columns_of
from sampan.engine.postgres import built_by
from sampan.errors import Code, PermanentFailure, Problem, SettingsFailure, TransientFailure
from sampan.settings import HOME, read_yaml, settings

if TYPE_CHECKING:
    import duckdb

INSTALLED = HOME / ".venv-spark"
SESSION = HOME / "infra" / "spark" / "session.py"
# What Spark calls otherwise than DuckDB.
TYPES = {"VARCHAR": "STRING", "JSON": "STRING", "TIMESTAMP WITH TIME ZONE": "TIMESTAMP"}
# The file that says a feed's columns, without rows: a feed may have no batch that counts.
NONE = "none"
LONGEST_ERROR = 2000
ALL = sql.SQL("")
# Seconds for which a session waits for the next step of a build, and a step for a session that it cannot join.
IDLE, LONGEST_WAIT = 120, 180
# In the folder of the engine: of the session, and of Spark for what does not fit into memory.
LOCK, LOG, DOOR, LOCAL = "lock", "session.log", "session.socket", "local"


class Spark(DuckDB):
    """One process at a time may have the metastore open, so families of marts are built one after the other.

    `brought/<schema>/<table>` has what comes from PostgreSQL, of raw a file for each batch; `warehouse/<schema>.db/<table>`
    what Spark writes.
    """

    name = "spark"

    def __init__(self) -> None:
        super().__init__()
        self._folder = settings().state / "spark"
        self._metastore = self._folder / "metastore"
        self._settings["temp_directory"] = str(self._folder / "spill")

    @property
    @override
    def dbt(self) -> str:
        if not (INSTALLED / "bin" / "dbt").exists():
            raise SettingsFailure(Problem(Code.SETTINGS_ENGINE, f"no Spark in {INSTALLED}; run `make spark`"))
        return str(INSTALLED / "bin" / "dbt")

    @override
    def environment(self) -> dict[str, str]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = self._folder / "conf"
        folder.mkdir(mode=0o700, exist_ok=True)
        _replace(folder / "spark-defaults.conf", self._properties())
        return {
            "SPARK_CONF_DIR": str(folder),
            "SPARK_HOME": str(INSTALLED / "spark"),
            "JAVA_HOME": str(INSTALLED / "java"),
        }

    @override
    def run_dbt(
        self, command: Sequence[str], options: Sequence[str], environment: Mapping[str, str]
    ) -> tuple[bool, str]:
        return self._ask(environment, command=list(command), options=list(options))

    @override
    @contextmanager
    def alone(self) -> Iterator[None]:
        self.environment()
        with ExitStack() as held:

            def is_alone() -> bool:
                # One that waits for the next step would wait for long.
                with suppress(OSError), _connected(self._folder) as connection:
                    connection.sendall(_line("end"))
                with suppress(BlockingIOError):
                    held.enter_context(_locked(self._folder))
                    return True
                return False

            _wait_until(is_alone, self._folder)
            yield

    @override
    def leave(self) -> None:
        if session := _sessions.pop(self._folder, None):
            session.leave()

    @override
    def close(self) -> None:
        if session := _sessions.pop(self._folder, None):
            session.close()

    def _ask(self, environment: Mapping[str, str], **what: Any) -> tuple[bool, str]:
        """Ask the session, which is started for the first question: see infra/spark/session.py."""
        if self._folder not in _sessions:
            _sessions[self._folder] = Session(self._folder, self.environment())
        is_done, said = _sessions[self._folder].ask({"environment": dict(environment), **what})
        if said:
            # Without a Spark that still answers, no step would be done.
            self.close()
        return is_done, said

    def _properties(self) -> str:
        """Configuration of Spark; what the file SAMPAN_SPARK_CONF says comes last, and counts."""
        master = settings().get("SAMPAN_SPARK_MASTER", "local[*]")
        secret = self._folder / "secret"
        if not secret.exists():
            secret.touch(mode=0o600)
            secret.write_text(secrets.token_hex(32), encoding="utf-8")
        values = {
            "spark.master": master,
            "spark.authenticate": "true",
            "spark.authenticate.secret": secret.read_text(encoding="utf-8"),
            "spark.ui.enabled": "false",
            # Of a cluster's driver, too: by default it is the system's temporary folder, and what a killed one left stays.
            "spark.local.dir": self._folder / LOCAL,
            "spark.sql.warehouse.dir": self._folder / "warehouse",
            "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={self._metastore};create=true",
            "spark.driver.extraJavaOptions": f"-Dderby.stream.error.file={self._folder / 'derby.log'}",
            "spark.sql.session.timeZone": "Asia/Hong_Kong",
            # DuckDB reads them; the default is a type of Spark's own.
            "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
            "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
            "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
            # As in other engines, a name in an inner query hides the outer one.
            "spark.sql.legacy.ctePrecedencePolicy": "CORRECTED",
            # Of a product of more than 38 digits, keep the decimals.
            "spark.sql.decimalOperations.allowPrecisionLoss": "false",
            # What is known of columns is carried along each use of each CTE: a mart of many steps takes long to plan.
            "spark.sql.constraintPropagation.enabled": "false",
            # Files are written again between two steps of a session.
            "spark.sql.filesourceTableRelationCacheSize": "0",
        }
        if master.startswith("local"):
            values |= {
                "spark.driver.host": "127.0.0.1",
                "spark.driver.bindAddress": "127.0.0.1",
                # The default is 200, for clusters; what turns out small is joined (spark.sql.adaptive.enabled).
                "spark.sql.shuffle.partitions": "8",
            }
        more = settings().get("SAMPAN_SPARK_CONF", "")
        lines = [f"{name} {value}" for name, value in values.items()]
        return "\n".join([*lines, Path(more).read_text("utf-8") if more else "", ""])

    @override
    def begin(self, connection: Connection) -> None:
        """Let the folders have the raw rows of the batches that builds took in, and no others."""
        built: dict[str, set[int]] = {feed: set() for feed in all_contracts()}
        for feed, batch_id in connection.execute("select feed, batch_id from ops.batches_built"):
            built.setdefault(feed, set()).add(batch_id)
        with self._open() as duck:
            for feed, wanted in built.items():
                columns, folder = columns_of(connection, "raw", feed), self._brought("raw", feed)
                if not _has_columns(duck, folder / f"{NONE}.parquet", columns):
                    shutil.rmtree(folder, ignore_errors=True)
                    self._write(duck, connection, "raw", feed, NONE, columns, sql.SQL("where false"))
                has = {int(file.stem) for file in folder.glob("*.parquet") if file.stem != NONE}
                for surplus in has - wanted:
                    (folder / f"{surplus}.parquet").unlink()
                for missing in sorted(wanted - has):
                    of_batch = sql.SQL("where _batch_id = {}").format(missing)
                    self._write(duck, connection, "raw", feed, str(missing), columns, of_batch)
        self.refresh(connection)
        self._declare([*(("raw", feed) for feed in built), *_of_platform()])

    @override
    def refresh(self, connection: Connection) -> None:
        with self._open() as duck:
            for schema, table in _of_platform():
                self._write(duck, connection, schema, table, "rows", columns_of(connection, schema, table))

    @override
    def take(self, connection: Connection, marts: Iterable[str]) -> None:
        taken = []
        with self._open() as duck:
            for mart in marts:
                # One that the live release lacks is missing.
                if scalar(connection, "select to_regclass(%s) is not null", [f"{postgres.BUILD}.{mart}"]):
                    columns = columns_of(connection, postgres.BUILD, mart)
                    self._write(duck, connection, postgres.BUILD, mart, "rows", columns)
                    taken.append((postgres.BUILD, mart))
        if taken:
            self._run(self._declaration(taken))

    @override
    def holds(self, connection: Connection) -> bool:
        released = scalar(connection, "select max(build_no) from ops.build where state = 'released'")
        note = self._folder / "held"
        held = int(note.read_text("utf-8")) if note.exists() else None
        return released is None or (built_by(connection) == self.name and held is not None and held >= released)

    @override
    def end(self, build_no: int) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(self._folder / "held", str(build_no))

    @override
    def batches(self, connection: Connection, batch_id: int) -> list[str]:
        if not self._folder.exists():
            return []
        with self._open() as duck:
            return sorted({table for table, _ in self._files_with(duck, batch_id)})

    @override
    def delete(self, connection: Connection, batch_id: int) -> int:
        if not self._folder.exists():
            return 0
        deleted = 0
        with self._open() as duck:
            for table, file in list(self._files_with(duck, batch_id)):
                if table.startswith("raw."):
                    file.unlink()
                    continue
                # The others are copies, and were counted where they come from.
                if table.startswith("intermediate."):
                    query = f"select count(*) from read_parquet('{file}') where batch_id = {batch_id}"
                    deleted += duck.execute(query).fetchall()[0][0]
                kept = file.with_suffix(".kept")
                query = f"select * from read_parquet('{file}') where batch_id is distinct from {batch_id}"
                duck.execute(f"copy ({query}) to '{kept}' (format parquet)")
                # Spark's sum of the file's bytes, which it would compare.
                file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
                kept.replace(file)
        return deleted

    def _files_with(self, duck: duckdb.DuckDBPyConnection, batch_id: int) -> Iterator[tuple[str, Path]]:
        """Files with rows of a batch, each after its table as `schema.name`."""
        for (schema, name), folder in self._tables().items():
            if schema == "raw" and (folder / f"{batch_id}.parquet").exists():
                yield f"raw.{name}", folder / f"{batch_id}.parquet"
            elif schema in ("quarantine", "intermediate"):
                files = f"{folder}/*.parquet"
                if "batch_id" in dict(_described(duck, files)):
                    rows = f"read_parquet('{files}', filename = true) where batch_id = {batch_id}"
                    for (file,) in duck.execute(f"select distinct filename from {rows}").fetchall():
                        yield f"{schema}.{name}", Path(file)

    def _brought(self, schema: str, table: str) -> Path:
        return self._folder / "brought" / schema / table

    def _tables(self) -> dict[tuple[str, str], Path]:
        """The folder of each table. Views are Spark's, and are not here."""
        written = {
            (folder.parent.name.removesuffix(".db"), folder.name): folder
            for folder in (self._folder / "warehouse").glob("*.db/*")
        }
        brought = {(folder.parent.name, folder.name): folder for folder in (self._folder / "brought").glob("*/*")}
        return {name: folder for name, folder in (brought | written).items() if any(folder.glob("*.parquet"))}

    @contextmanager
    @override
    def _open(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """DuckDB in memory, with a view on each table."""
        import duckdb

        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with duckdb.connect() as duck:
            self._set(duck)
            for (schema, name), folder in self._tables().items():
                duck.execute(f"create schema if not exists {schema}")
                duck.execute(f"create view {schema}.{name} as select * from read_parquet('{folder}/*.parquet')")
            yield duck

    def _write(
        self,
        duck: duckdb.DuckDBPyConnection,
        connection: Connection,
        schema: str,
        table: str,
        file: str,
        columns: list[tuple[str, str]],
        where: sql.Composable = ALL,
    ) -> None:
        """Copy rows of a table of the warehouse into a file, which is there whole or not at all."""
        folder = self._brought(schema, table)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = folder / f"{file}.fresh"
        self._bring(
            duck, connection, schema, table, columns, where, "copy ({}) to '" + str(fresh) + "' (format parquet)"
        )
        failpoints.hit("engine.before_commit")
        fresh.replace(folder / f"{file}.parquet")

    def _declare(self, tables: list[tuple[str, str]]) -> None:
        """Let Spark know tables that are brought, when they are not those that it knows."""
        statements, known = self._declaration(tables), self._folder / "declared.json"
        declared = json.loads(known.read_text("utf-8")) if self._metastore.exists() and known.exists() else []
        if declared != statements:
            self._run(statements)
            _replace(known, json.dumps(statements))

    def _declaration(self, tables: list[tuple[str, str]]) -> list[str]:
        statements = []
        with self._open() as duck:
            for schema, table in tables:
                folder = self._brought(schema, table)
                columns = ", ".join(
                    f"`{name}` {TYPES.get(kind, kind)}"
                    for name, kind in _described(duck, next(folder.glob("*.parquet")))
                )
                statements += [
                    f"create schema if not exists {schema}",
                    f"drop table if exists {schema}.{table}",
                    f"create table {schema}.{table} ({columns}) using parquet location '{folder}'",
                ]
        return statements

    def _run(self, statements: list[str]) -> None:
        """Run SQL that declares tables. Raises PermanentFailure when it fails."""
        is_done, said = self._ask({}, statements=statements)
        if not is_done:
            raise PermanentFailure(Problem(Code.BUILD_FAILED, f"Spark failed: {said[-LONGEST_ERROR:]}"))


class Session:
    """Connection to a process of .venv-spark that has dbt and Spark (infra/spark/session.py): to one that an earlier step of
    the build left, or to a new one. Raises TransientFailure while another builder has it."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        # What Spark is started with, and is then not changed.
        of = hashlib.sha256((folder / "conf" / "spark-defaults.conf").read_bytes() + SESSION.read_bytes()).hexdigest()
        _wait_until(lambda: self._join(of) or self._start(of, environment), folder)

    def _join(self, of: str) -> bool:
        """Whether one was left that fits. One that does not is ended."""
        try:
            self._connection = _connected(self._folder)
        except OSError:
            return False
        self._answers = self._connection.makefile("r", encoding="utf-8")
        is_done, _ = self.ask({"joins": of})
        if not is_done:
            self.close()
        return is_done

    def _start(self, of: str, environment: Mapping[str, str]) -> bool:
        """Whether no other builder has one, so that this one has started it."""
        try:
            with _locked(self._folder) as lock, (self._folder / LOG).open("w", encoding="utf-8") as log:
                self._connection, theirs = socket.socketpair()
                with theirs:
                    inherited = [theirs.fileno(), lock.fileno()]
                    subprocess.run(
                        [INSTALLED / "bin" / "python", SESSION, str(theirs.fileno()), self._folder, str(IDLE), of],
                        # Signals to the builder's group are for the builder. It has the lock, too: who started it may be
                        # killed.
                        env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True,
                        pass_fds=inherited, start_new_session=True,
                    )  # fmt: skip
        except BlockingIOError:
            return False
        self._answers = self._connection.makefile("r", encoding="utf-8")
        return True

    def ask(self, what: Mapping[str, Any]) -> tuple[bool, str]:
        """Let it run something; whether it succeeded, and why not."""
        line = ""
        with suppress(ConnectionError):
            self._connection.sendall(_line(what))
            line = self._answers.readline()
        if not line:
            return False, f"Spark's process ended: {(self._folder / LOG).read_text('utf-8', 'replace').strip()}"
        answer = json.loads(line)
        return answer["is_done"], answer["said"]

    def leave(self) -> None:
        """Leave it to the next step."""
        self._say("leave")

    def close(self) -> None:
        """End it, in the middle of what it runs, too."""
        self._say("end")

    def _say(self, last: str) -> None:
        with self._connection, self._answers, suppress(OSError):
            self._connection.sendall(_line(last))
            # It hangs up when it has left or ended.
            self._connection.settimeout(LONGEST_WAIT)
            while self._connection.recv(1 << 16):
                pass


# By the folder of the engine.
_sessions: dict[Path, Session] = {}


def _wait_until(is_ready: Callable[[], bool], folder: Path) -> None:
    """Raises TransientFailure when another builder has the session of a folder for long."""
    until = time.monotonic() + LONGEST_WAIT
    while not is_ready():
        if time.monotonic() > until:
            raise TransientFailure(f"another builder has a session of Spark: it holds {folder / LOCK}")
        time.sleep(0.2)


def _connected(folder: Path) -> socket.socket:
    """A connection to a session that was left. Raises OSError when there is none."""
    connection = socket.socket(socket.AF_UNIX)
    # The path of a socket has 107 bytes at most.
    place = os.open(folder, os.O_RDONLY)
    try:
        connection.connect(f"/proc/self/fd/{place}/{DOOR}")
    except OSError:
        connection.close()
        raise
    finally:
        os.close(place)
    return connection


def _line(said: Any) -> bytes:
    return json.dumps(said).encode() + b"\n"


@contextmanager
def _locked(folder: Path) -> Iterator[IO[str]]:
    """The lock of a folder's metastore, and what a killed session left taken away. Raises BlockingIOError when another
    process has it."""
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (folder / DOOR).unlink(missing_ok=True)
        shutil.rmtree(folder / LOCAL, ignore_errors=True)
        yield lock


def _of_platform() -> list[tuple[str, str]]:
    """What the platform itself knows: schema and table."""
    sources = read_yaml(SOURCES)["sources"]
    return [(source["name"], table["name"]) for source in sources for table in source["tables"]]


def _described(duck: duckdb.DuckDBPyConnection, files: Path | str) -> list[tuple[str, str]]:
    """Names of the columns of files, each with its type."""
    query = f"select column_name, column_type from (describe select * from read_parquet('{files}'))"
    found: list[tuple[str, str]] = duck.execute(query).fetchall()
    return found


def _has_columns(duck: duckdb.DuckDBPyConnection, file: Path, columns: list[tuple[str, str]]) -> bool:
    return file.exists() and _described(duck, file) == columns


def _replace(file: Path, text: str) -> None:
    fresh = file.with_suffix(".fresh")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(file)
