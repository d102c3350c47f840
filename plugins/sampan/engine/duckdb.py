"""DuckDB as the engine: a file in the state folder with raw rows, what is derived from them, and the marts to hand over.

Everything crosses by COPY, as CSV in which an empty text differs from none, through a file in the spill folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from typing_extensions import override

from sampan import failpoints
from sampan.contracts.model import DIGITS
from sampan.contracts.registry import all_contracts
from sampan.database import Connection, hide_values, is_transient, scalar
from sampan.engine import postgres
from sampan.engine.postgres import Mart, Postgres, built_by
from sampan.errors import TransientFailure
from sampan.settings import HOME, read_yaml, settings

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

SOURCES = HOME / "dbt_project" / "models" / "staging" / "_ops.yml"
TYPES = {
    postgres.BOOLEAN: "BOOLEAN", postgres.BIGINT: "BIGINT", postgres.SMALLINT: "SMALLINT", postgres.INTEGER: "INTEGER",
    postgres.TEXT: "VARCHAR", postgres.VARCHAR: "VARCHAR", postgres.JSON: "JSON", postgres.JSONB: "JSON",
    postgres.TEXTS: "JSON", postgres.DOUBLE: "DOUBLE", postgres.DATE: "DATE",
    postgres.TIMESTAMPTZ: "TIMESTAMP WITH TIME ZONE",
}  # fmt: skip
# What PostgreSQL calls otherwise.
IN_POSTGRES = {"DOUBLE": "double precision", "HUGEINT": "numeric"}
# A number is decimal, with as many digits as DuckDB has.
WIDTH = 38
CSV = "format csv, header false, nullstr ''"
READ = "header = false, auto_detect = false, nullstr = '', allow_quoted_nulls = false, max_line_size = 16777216"


class DuckDB(Postgres):
    """One process at a time may have the file open, so families of marts are built one after the other."""

    name = "duckdb"
    is_shared = False

    def __init__(self) -> None:
        self._folder = settings().state / "duckdb"
        self._file = self._folder / "warehouse.duckdb"
        self._settings = {
            "memory_limit": settings().get("SAMPAN_BUILD_MEMORY", "2GB"),
            "temp_directory": str(self._folder / "spill"),
            "timezone": "Asia/Hong_Kong",
            # A program that is downloaded when a query needs it.
            "autoinstall_known_extensions": "false",
        }

    @override
    def environment(self) -> dict[str, str]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return {
            "SAMPAN_DBT_FILE": str(self._file),
            "SAMPAN_DBT_MEMORY": self._settings["memory_limit"],
            "SAMPAN_DBT_SPILL": self._settings["temp_directory"],
        }

    @override
    def begin(self, connection: Connection) -> None:
        """Let the file have the raw rows of the batches that builds took in, and no others."""
        built: dict[str, set[int]] = {feed: set() for feed in all_contracts()}
        for feed, batch_id in connection.execute("select feed, batch_id from ops.batches_built"):
            built.setdefault(feed, set()).add(batch_id)
        with self._changed() as duck:
            duck.execute(f"drop schema if exists {postgres.BUILD} cascade")
            duck.execute(f"create schema {postgres.BUILD}; create schema if not exists raw")
            for feed, wanted in built.items():
                columns, has = columns_of(connection, "raw", feed), set()
                if _has(duck, "raw", feed) and columns == _described(duck, f"raw.{feed}"):
                    has = {row[0] for row in duck.execute(f"select distinct _batch_id from raw.{feed}").fetchall()}
                else:
                    typed = ", ".join(f'"{name}" {kind}' for name, kind in columns)
                    duck.execute(f"create or replace table raw.{feed} ({typed})")
                if surplus := has - wanted:
                    duck.execute(f"delete from raw.{feed} where _batch_id in ({', '.join(map(str, surplus))})")
                if missing := wanted - has:
                    of_batches = sql.SQL("where _batch_id = any({})").format(sorted(missing))
                    self._bring(duck, connection, "raw", feed, columns, of_batches, f"insert into raw.{feed} {{}}")

    @override
    def refresh(self, connection: Connection) -> None:
        with self._changed() as duck:
            for source in read_yaml(SOURCES)["sources"]:
                duck.execute(f"create schema if not exists {source['name']}")
                for table in source["tables"]:
                    self._replace(duck, connection, source["name"], table["name"])

    @override
    def take(self, connection: Connection, marts: Iterable[str]) -> None:
        with self._changed() as duck:
            for mart in marts:
                # One that the live release lacks is missing.
                if scalar(connection, "select to_regclass(%s) is not null", [f"{postgres.BUILD}.{mart}"]):
                    self._replace(duck, connection, postgres.BUILD, mart)

    @override
    def read(self, connection: Connection, query: str) -> pa.Table:
        import pyarrow as pa

        with self._open() as duck:
            found = duck.sql(query).to_arrow_table()
        of_floats = pa.schema(
            [field.with_type(pa.float64()) if pa.types.is_decimal(field.type) else field for field in found.schema]
        )
        return found.cast(of_floats)

    @override
    def insert(self, connection: Connection, table: str, query: str) -> int:
        with self._open() as duck:
            return self._give(duck, connection, sql.SQL(table), query)

    @override
    def hand_over(self, connection: Connection, claim: str, marts: Iterable[Mart]) -> dict[str, str]:
        marts, wrong = list(marts), dict[str, str]()
        with self._open() as duck:
            for statements in (self._write_mart, _refer):
                for mart in marts:
                    try:
                        with connection.transaction():
                            connection.execute("select set_config('sampan.claim', %s, true)", [claim])
                            connection.execute("select ops.assert_step_claimed()")
                            statements(duck, connection, mart)
                    except psycopg.Error as error:
                        if is_transient(error):
                            raise
                        hide_values(error)
                        wrong.setdefault(mart.node, str(error))
        return wrong

    @override
    def holds(self, connection: Connection) -> bool:
        released = scalar(connection, "select max(build_no) from ops.build where state = 'released'")
        with self._open() as duck:
            held = (
                duck.execute("select max(build_no) from held").fetchall()[0][0] if _has(duck, "main", "held") else None
            )
        return released is None or (built_by(connection) == self.name and held is not None and held >= released)

    @override
    def end(self, build_no: int) -> None:
        with self._open() as duck:
            duck.execute(f"create or replace table held as select {int(build_no)} as build_no")

    @override
    def columns(self, connection: Connection) -> list[tuple[str, str, str, str]]:
        query = """
            select table_schema, table_name, column_name, data_type from information_schema.columns
            where table_schema in ('staging', 'intermediate')
        """
        with self._open() as duck:
            return duck.execute(query).fetchall()

    @override
    def batches(self, connection: Connection, batch_id: int) -> list[str]:
        if not self._file.exists():
            return []
        with self._open() as duck:
            return [
                table
                for table, column in _with_batches(duck)
                if duck.execute(f"select 1 from {table} where {column} = ? limit 1", [batch_id]).fetchone()
            ]

    @override
    def delete(self, connection: Connection, batch_id: int) -> int:
        if not self._file.exists():
            return 0
        with self._open() as duck:
            deleted = {
                table: duck.execute(f"delete from {table} where {column} = ?", [batch_id]).fetchall()[0][0]
                for table, column in _with_batches(duck)
            }
            duck.execute("checkpoint")
        # The others are copies, and were counted where they come from.
        return sum(rows for table, rows in deleted.items() if table.startswith("intermediate."))

    @contextmanager
    def _open(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The file. Raises TransientFailure while another process has it open."""
        import duckdb

        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            opened = duckdb.connect(str(self._file))
        except duckdb.IOException as error:
            raise TransientFailure(f"another builder has {self._file} open: {error}") from error
        with opened as duck:
            self._set(duck)
            yield duck

    def _set(self, duck: duckdb.DuckDBPyConnection) -> None:
        for name, value in self._settings.items():
            duck.execute(f"set {name} = '{value}'")

    @contextmanager
    def _changed(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The file, in a transaction."""
        with self._open() as duck:
            duck.execute("begin")
            yield duck
            failpoints.hit("engine.before_commit")
            duck.execute("commit")

    @contextmanager
    def _crossing(self) -> Iterator[Path]:
        """A file for rows on their way."""
        file = self._folder / "spill" / "crossing.csv"
        file.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            yield file
        finally:
            file.unlink(missing_ok=True)

    def _replace(self, duck: duckdb.DuckDBPyConnection, connection: Connection, schema: str, table: str) -> None:
        columns = columns_of(connection, schema, table)
        self._bring(
            duck, connection, schema, table, columns, sql.SQL(""), f"create or replace table {schema}.{table} as {{}}"
        )

    def _bring(
        self,
        duck: duckdb.DuckDBPyConnection,
        connection: Connection,
        schema: str,
        table: str,
        columns: list[tuple[str, str]],
        where: sql.Composable,
        into: str,
    ) -> None:
        """Copy rows of a table of the warehouse by a statement that has {} for them."""
        names = sql.SQL(", ").join(
            # A list of texts has a form of its own in either engine.
            sql.SQL("to_jsonb({})").format(sql.Identifier(name)) if kind == "JSON" else sql.Identifier(name)
            for name, kind in columns
        )
        query = sql.SQL("copy (select {} from {} {}) to stdout (format csv)").format(
            names, sql.Identifier(schema, table), where
        )
        with self._crossing() as file:
            with connection.cursor().copy(query) as rows, file.open("wb") as target:
                target.writelines(rows)
            typed = ", ".join(f"'{name}': '{kind}'" for name, kind in columns)
            duck.execute(into.format(f"select * from read_csv('{file}', columns = {{{typed}}}, {READ})"))

    def _give(self, duck: duckdb.DuckDBPyConnection, connection: Connection, target: sql.Composable, query: str) -> int:
        """Copy rows of a query on the file into a table of the warehouse. Returns how many."""
        with self._crossing() as file:
            duck.execute(f"copy ({query}) to '{file}' ({CSV})")
            cursor = connection.cursor()
            with (
                cursor.copy(sql.SQL("copy {} from stdin (format csv)").format(target)) as copy,
                file.open("rb") as rows,
            ):
                while block := rows.read(1 << 20):
                    copy.write(block)
            return cursor.rowcount

    def _write_mart(self, duck: duckdb.DuckDBPyConnection, connection: Connection, mart: Mart) -> None:
        """A mart's table with its rows, primary key, indexes, comments and policies, as dbt would have made it there."""
        table = sql.Identifier(mart.schema, mart.name)
        connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(mart.schema)))
        connection.execute(sql.SQL("drop table if exists {} cascade").format(table))
        told = mart.columns or [(name, kind, True, "") for name, kind in _described(duck, f"{mart.schema}.{mart.name}")]
        columns = sql.SQL(", ").join(
            sql.SQL("{} {} {}").format(
                sql.Identifier(name), sql.SQL(IN_POSTGRES.get(kind, kind)), sql.SQL("" if is_null else "not null")
            )
            for name, kind, is_null, _ in told
        )
        connection.execute(sql.SQL("create table {} ({})").format(table, columns))
        names = ", ".join(f'"{name}"' for name, *_ in told)
        self._give(duck, connection, table, f"select {names} from {mart.schema}.{mart.name}")
        if mart.primary_key:
            connection.execute(sql.SQL("alter table {} add primary key ({})").format(table, _list(mart.primary_key)))
        for index in mart.indexes:
            connection.execute(sql.SQL("create index on {} ({})").format(table, _list(index)))
        comments = [(sql.SQL("table {}").format(table), mart.description)]
        comments += [(sql.SQL("column {}.{}").format(table, sql.Identifier(name)), text) for name, _, _, text in told]
        for what, text in comments:
            connection.execute(sql.SQL("comment on {} is {}").format(what, text))
        if mart.is_read_under_consent:
            connection.execute("select ops.read_under_consent(%s::regclass)", [table.as_string()])
        else:
            connection.execute(sql.SQL("analyze {}").format(table))


def _refer(_: Any, connection: Connection, mart: Mart) -> None:
    """The foreign keys of a mart, when all of its step are there."""
    for column, table, key in mart.foreign_keys:
        connection.execute(
            sql.SQL("alter table {} add foreign key ({}) references {} ({})").format(
                sql.Identifier(mart.schema, mart.name), sql.Identifier(column),
                sql.Identifier(postgres.BUILD, table), sql.Identifier(key),
            )
        )  # fmt: skip


def _described(duck: duckdb.DuckDBPyConnection, table: str) -> list[tuple[str, str]]:
    """Names of the columns of a table of the file, each with its type."""
    found: list[tuple[str, str]] = duck.execute(f"select column_name, column_type from (describe {table})").fetchall()
    return found


def _list(names: Iterable[str]) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def columns_of(connection: Connection, schema: str, table: str) -> list[tuple[str, str]]:
    """Names of a table's columns, each with its type in DuckDB."""
    query = sql.SQL("select * from {} limit 0").format(sql.Identifier(schema, table))
    contract = all_contracts().get(table) if schema == "raw" else None
    scales = (
        {column.name: column.decimals for column in contract.columns if column.type == "numeric"} if contract else {}
    )
    return [
        (column.name, _type(column, scales.get(column.name, DIGITS // 2)))
        for column in connection.execute(query).description or ()
    ]


def _type(column: psycopg.Column, scale: int) -> str:
    if column.type_code != postgres.NUMERIC:
        return TYPES[column.type_code]
    return f"DECIMAL({column.precision},{column.scale})" if column.precision else f"DECIMAL({WIDTH},{scale})"


def _has(duck: duckdb.DuckDBPyConnection, schema: str, table: str) -> bool:
    query = "select 1 from information_schema.tables where table_schema = ? and table_name = ?"
    return duck.execute(query, [schema, table]).fetchone() is not None


def _with_batches(duck: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    """Tables with rows of batches, as `schema.name`, and the column with the batch's number."""
    found = duck.execute(
        """
        select table_schema || '.' || table_name, column_name
        from information_schema.columns
        inner join information_schema.tables using (table_schema, table_name)
        where table_type = 'BASE TABLE' and column_name in ('batch_id', '_batch_id')
            and table_schema in ('raw', 'quarantine', 'intermediate')
        order by 1
        """
    ).fetchall()
    return [(table, column) for table, column in found]
