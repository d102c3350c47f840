"""Checks of SQL in contracts: a row rule may read its own row only, a query its batch only, and neither may be costly."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sampan.errors import Code
from sampan.text import did_you_mean

# What rules need, as sqlglot names it. Other functions may read the server, sleep, or make a gigabyte of text of one row.
FUNCTIONS = {
    *("abs", "and", "array", "case", "cast", "ceil", "coalesce", "currentdate", "extract", "floor", "greatest", "if"),
    *("least", "left", "length", "lower", "nullif", "or", "regexpilike", "regexplike", "right", "round"),
    *("strposition", "substring", "timestamptrunc", "trim", "upper"),
}
AGGREGATES = {"avg", "count", "exists", "logicaland", "logicalor", "max", "min", "sum"}
TYPES = {"BIGINT", "BOOLEAN", "DATE", "DECIMAL", "DOUBLE", "INT", "SMALLINT", "TEXT", "TIMESTAMP", "TIMESTAMPTZ"}


def check_predicate(name: str, predicate: str, names: set[str]) -> Iterator[tuple[Code, str]]:
    """Code and message of each error of a row predicate. `names` are the columns of its row."""
    for message in query_faults(f"select 1 where {predicate}", names | {"business_date"}, ()):
        yield Code.CONTRACT_PREDICATE, f"{name}: {message}"


def query_faults(query: str, names: set[str], tables: tuple[str, ...]) -> Iterator[str]:
    """Each error of a query: it is not SQL, or reads more than `names` of `tables` (its own row if none)."""
    import sqlglot
    from sqlglot import exp

    try:
        tree = sqlglot.parse_one(query, dialect="postgres")
    except sqlglot.errors.SqlglotError as error:
        yield f"not SQL: {str(error).splitlines()[0]}"
        return
    # A comment at the end hides what Sampan writes after it.
    if re.search(r"--|/\*", re.sub(r"'[^']*'", "''", query)) or any(node.comments for node in tree.walk()):
        yield "comments are not allowed; write them beside the SQL"
    if not isinstance(tree, exp.Query):
        yield "not a query"
    elif not tables and (len(list(tree.find_all(exp.Query))) > 1 or tree.find(exp.From)):
        yield "a row rule may read its own row only"
    elif not tables and {part for part, value in tree.args.items() if value} != {"expressions", "where"}:
        yield "a row rule must be one condition"
    for table in tree.find_all(exp.Table) if tables else ():
        if table.sql() not in tables:
            yield f"reads {table.sql()}; a query may read {{batch}} only"
    # A name given by `with` may be the batch's, call itself without end, or delete; the others write or lock.
    for part in tree.find_all(exp.With, exp.DML, exp.Into, exp.Lock):
        yield f"{part.sql('postgres')} is not allowed; a query reads {{batch}} and nothing is written or locked"
    allowed = FUNCTIONS | AGGREGATES if tables else FUNCTIONS
    for call in tree.find_all(exp.Func, exp.UDTF, exp.Window, exp.Operator):
        if call.key not in allowed:
            name = call.name if isinstance(call, exp.Anonymous) else call.sql("postgres")
            yield f"{name} is not allowed; allowed are {', '.join(sorted(allowed))}"
    for kind in tree.find_all(exp.DataType):
        if kind.expressions or str(kind.this).rpartition(".")[2] not in TYPES:
            yield f"type {kind.sql('postgres')} is not allowed; allowed are {', '.join(sorted(TYPES)).lower()}"
    for column in tree.find_all(exp.Column):
        if column.name not in names:
            yield f"unknown column {column.name!r}{did_you_mean(column.name, names)}"
