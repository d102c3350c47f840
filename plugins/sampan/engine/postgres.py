"""PostgreSQL as the engine: models are computed where the marts are read, so nothing is brought or handed over."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from sampan.database import Connection, scalar

if TYPE_CHECKING:
    import pyarrow as pa

# Types by their numbers in PostgreSQL's catalog.
BOOLEAN, BIGINT, SMALLINT, INTEGER, TEXT, JSON, DOUBLE, TEXTS, VARCHAR, DATE, TIMESTAMPTZ, NUMERIC, JSONB = (
    16, 20, 21, 23, 25, 114, 701, 1009, 1043, 1082, 1184, 1700, 3802,
)  # fmt: skip


# The schema of the marts of the current build.
BUILD = "build"


@dataclass(frozen=True)
class Mart:
    """A mart that dbt made, or a table that the gate reads beside marts: what its table in the warehouse has besides rows.

    `columns` (none where no contract says them) has name, type, whether it may be empty, and description; `foreign_keys`
    column, table and its column.
    """

    node: str
    schema: str
    name: str
    description: str
    columns: Sequence[tuple[str, str, bool, str]]
    primary_key: Sequence[str]
    foreign_keys: Sequence[tuple[str, str, str]]
    indexes: Sequence[Sequence[str]]
    is_read_under_consent: bool


class Postgres:
    """`connection` is always the builder's, to the warehouse.

    `name` is what SAMPAN_BUILD_ENGINE and dbt's profile call it; with `is_shared`, families of marts may be built beside
    each other.
    """

    name = "postgres"
    is_shared = True

    @property
    def dbt(self) -> str:
        """The command of dbt in an environment of its own; empty when it runs in this process. Raises SettingsFailure."""
        return ""

    def environment(self) -> dict[str, str]:
        """Variables for dbt's profile."""
        return {}

    def run_dbt(
        self, command: Sequence[str], options: Sequence[str], environment: Mapping[str, str]
    ) -> tuple[bool, str]:
        """Run a command of the dbt in an environment of its own; whether it succeeded, and what it said."""
        raise NotImplementedError

    def alone(self) -> AbstractContextManager[None]:
        """Keep builders away from what the dbt of an environment of its own needs for itself."""
        return nullcontext()

    def leave(self) -> None:
        """Leave what runs from one step of a build to the next to the process of the next one."""

    def close(self) -> None:
        """End what runs from one step of a build to the next."""

    def begin(self, connection: Connection) -> None:
        """Bring the raw rows of the build to where its models are computed."""

    def refresh(self, connection: Connection) -> None:
        """Bring what the platform itself knows, when it has changed: the ledger, links, estimates."""

    def take(self, connection: Connection, marts: Iterable[str]) -> None:
        """Bring marts of the build that were not made in it, but carried."""

    def read(self, connection: Connection, query: str) -> pa.Table:
        """Rows of a query on the build's tables, for statistics: numbers with decimals are float64."""
        import pyarrow as pa
        from pyarrow import csv

        kinds = {
            BOOLEAN: pa.bool_(), BIGINT: pa.int64(), SMALLINT: pa.int64(), INTEGER: pa.int64(), DOUBLE: pa.float64(),
            NUMERIC: pa.float64(), DATE: pa.date32(),
        }  # fmt: skip
        with connection.cursor() as cursor:
            described = cursor.execute(f"select * from ({query}) as described limit 0").description or ()
            types = {column.name: kinds.get(column.type_code, pa.string()) for column in described}
            content = io.BytesIO()
            # Quoted, an empty text differs from none.
            with cursor.copy(f"copy ({query}) to stdout (format csv, force_quote *)") as copy:
                content.writelines(copy)
        if not content.tell():
            return pa.schema(list(types.items())).empty_table()
        content.seek(0)
        return csv.read_csv(
            content,
            csv.ReadOptions(column_names=list(types)),
            csv.ParseOptions(newlines_in_values=True),
            csv.ConvertOptions(
                column_types=types, null_values=[""], true_values=["t"], false_values=["f"],
                strings_can_be_null=True, quoted_strings_can_be_null=False,
            ),
        )  # fmt: skip

    def insert(self, connection: Connection, table: str, query: str) -> int:
        """Put the rows of a query on the build's tables into a table of the warehouse. Returns how many."""
        return connection.execute(f"insert into {table} {query}").rowcount

    def hand_over(self, connection: Connection, claim: str, marts: Iterable[Mart]) -> dict[str, str]:
        """Give the warehouse the marts that a step made. Returns what is wrong, by node: keys that are not unique, say."""
        return {}

    def holds(self, connection: Connection) -> bool:
        """Whether the persistent tables hold what the newest release was made from: else a build derives all again."""
        return built_by(connection) in (self.name, None)

    def end(self, build_no: int) -> None:
        """Note that the persistent tables hold a build."""

    def columns(self, connection: Connection) -> list[tuple[str, str, str, str]]:
        """The columns of what marts are made from: schema, table, column and type."""
        query = """
            select table_schema, table_name, column_name, data_type from information_schema.columns
            where table_schema in ('staging', 'intermediate')
        """
        return connection.execute(query).fetchall()

    def batches(self, connection: Connection, batch_id: int) -> list[str]:
        """The persistent tables that have rows of a batch."""
        query = sql.SQL("select exists (select from {} where batch_id = %s)")
        return [
            table.as_string().replace('"', "")
            for table in _derived(connection)
            if scalar(connection, query.format(table), [batch_id])
        ]

    def delete(self, connection: Connection, batch_id: int) -> int:
        """Delete the rows of a batch from the persistent tables. Returns how many."""
        query = sql.SQL("delete from {} where batch_id = %s")
        return sum(connection.execute(query.format(table), [batch_id]).rowcount for table in _derived(connection))


def built_by(connection: Connection) -> Any:
    """The engine that made the newest release; None before the first one."""
    query = "select (select engine from ops.build where state = 'released' order by build_no desc limit 1)"
    return scalar(connection, query)


def _derived(connection: Connection) -> list[sql.Identifier]:
    """Persistent tables of dbt that have a batch_id column."""
    found = connection.execute(
        """
        select c.relname from pg_class as c
        join pg_attribute as a on a.attrelid = c.oid and a.attname = 'batch_id'
        where c.relnamespace = to_regnamespace('intermediate') and c.relkind = 'r'
        order by 1
        """
    )
    return [sql.Identifier("intermediate", name) for (name,) in found]
