"""Checks of SQL in contracts: a row rule may read its own row only, a query its batch only."""

from __future__ import annotations

from collections.abc import Iterator

from sampan.errors import Code


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
    if not isinstance(tree, exp.Query):
        yield "not a query"
    elif not tables and tree.find(exp.Subquery, exp.From):
        yield "a row rule may read its own row only"
    for table in tree.find_all(exp.Table) if tables else ():
        if table.sql() not in tables:
            yield f"reads {table.sql()}; a query may read {{batch}} only"
    for function in tree.find_all(exp.Anonymous):
        yield f"unknown or non-portable function {function.name}"
    for column in tree.find_all(exp.Column):
        if column.name not in names:
            yield f"unknown column {column.name!r}"
