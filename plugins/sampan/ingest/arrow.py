"""Rows of raw as Arrow tables, with the types of their contract: what the lake has, and what it is compared with."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from psycopg import sql

from sampan.contracts.model import Column, Contract
from sampan.database import Connection
from sampan.errors import Code, PermanentFailure, Problem

if TYPE_CHECKING:
    import pyarrow as pa

# Digits of a number: the most that Parquet's readers take as exact.
PRECISION = 38
# Bytes of rows, as text, in one table: what a reading of raw has in memory, and a row group of the lake.
TABLE_BYTES = 16 << 20


def schema_of(contract: Contract) -> pa.Schema:
    """Names and types of the stored columns of a feed, then number of the batch and line."""
    import pyarrow as pa

    fields = [(column.name, _type(column)) for column in contract.stored]
    return pa.schema([*fields, ("_batch_id", pa.int64()), ("_line", pa.int64())])


def tables(connection: Connection, contract: Contract, batch_id: int) -> Iterator[pa.Table]:
    """The rows of a batch in the order of the contract's key, some at a time: no table for a batch without rows.

    Raises PermanentFailure when a value does not fit the type of its column.
    """
    schema = schema_of(contract)
    columns = sql.SQL(", ").join([*map(_value, contract.stored), sql.SQL("_batch_id, _line")])
    # By bytes, as the statistics of a Parquet file compare texts.
    order = sql.SQL(", ").join(
        sql.SQL('{} collate "C"' if column.type == "text" else "{}").format(sql.Identifier(column.name))
        for column in map(contract.column, contract.key)
    )
    # Quoted, an empty text differs from none.
    query = sql.SQL(
        "copy (select {} from {} where _batch_id = {} order by {}, _line) to stdout (format csv, force_quote *)"
    ).format(columns, sql.Identifier("raw", contract.feed), sql.Literal(batch_id), order)
    rows, size = list[bytes](), 0
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        for row in copy:
            rows.append(bytes(row))
            size += len(row)
            if size >= TABLE_BYTES:
                yield _parsed(b"".join(rows), schema, batch_id)
                rows, size = [], 0
    if rows:
        yield _parsed(b"".join(rows), schema, batch_id)


def _type(column: Column) -> pa.DataType:
    import pyarrow as pa

    if column.type == "numeric":
        return pa.decimal128(PRECISION, column.decimals)
    types = {
        "text": pa.string(), "bigint": pa.int64(), "date": pa.date32(), "timestamptz": pa.timestamp("us", "UTC"),
        "boolean": pa.bool_(),
    }  # fmt: skip
    return types[column.type]


def _value(column: Column) -> sql.Composable:
    """A column as it is read: a number without a scale in its contract may have more decimals than any type."""
    name = sql.Identifier(column.name)
    return sql.SQL("round({}, {})").format(name, column.decimals) if column.type == "numeric" else name


def _parsed(rows: bytes, schema: pa.Schema, batch_id: int) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    try:
        return csv.read_csv(
            io.BytesIO(rows),
            csv.ReadOptions(column_names=schema.names),
            csv.ParseOptions(newlines_in_values=True),
            csv.ConvertOptions(
                column_types=schema, null_values=[""], true_values=["t"], false_values=["f"],
                strings_can_be_null=True, quoted_strings_can_be_null=False,
            ),
        )  # fmt: skip
    except pa.ArrowInvalid as error:
        # Its text quotes the value.
        place = re.search("column #([0-9]+)", str(error))
        name = schema.names[int(place[1])] if place else "one of its columns"
        message = f"batch {batch_id} has a value in {name} that does not fit {schema.field(name).type if place else ''}"
        raise PermanentFailure(Problem(Code.LAKE_VALUE, message.strip())) from None
