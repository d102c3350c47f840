"""A contract's types and row rules as SQL that says which rows break which of them, all in one pass."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date

from psycopg import sql

from sampan.contracts.model import Column, Contract
from sampan.contracts.values import DATE_WORDS, DAY

Check = tuple[str, sql.Composable]


def checks(contract: Contract, columns: Iterable[Column], business_date: date) -> list[Check]:
    """Every rule that a row of these columns can break, as (rule, SQL that is true where the row breaks it)."""
    columns = list(columns)
    found = [check for column in columns for check in _column_checks(column)]
    have = {column.name for column in columns}
    for rule in contract.row_rules:
        predicate = rule.predicate or ""
        if rule.severity in ("critical", "error") and _names(predicate, contract) <= have:
            found.append((rule.name, sql.SQL(f"({dated(predicate, business_date)}) is false")))
    return found


def advice(contract: Contract, columns: Iterable[Column], business_date: date) -> list[Check]:
    """Row rules that warn only: their broken rows are counted, not quarantined."""
    have = {column.name for column in columns}
    return [
        (rule.name, sql.SQL(f"({dated(rule.predicate or '', business_date)}) is false"))
        for rule in contract.row_rules
        if rule.severity in ("warning", "info") and _names(rule.predicate or "", contract) <= have
    ]


def type_checks(columns: Iterable[Column]) -> list[Check]:
    """For text columns: where a value is not of its column's type, by the same reader that COPY uses."""
    return [(f"{column.name}.type", sql.SQL("not ({})").format(_valid(column))) for column in columns if _typed(column)]


def safe_casts(columns: Iterable[Column]) -> sql.Composed:
    """Text columns as typed ones, null where the text is not of the type."""
    parts = []
    for column in columns:
        name = sql.Identifier(column.name)
        if _typed(column):
            cast = sql.SQL("case when {} then cast({} as {}) end as {}")
            parts.append(cast.format(_valid(column), name, sql.SQL(column.type), name))
        else:
            parts.append(sql.Composed([name]))
    return sql.SQL(", ").join(parts)


def any_of(found: list[Check]) -> sql.Composable:
    """True where at least one check is broken."""
    if not found:
        return sql.SQL("false")
    return sql.SQL(" or ").join(sql.SQL("({})").format(broken) for _, broken in found)


def all_broken(found: list[Check], careful: bool = False) -> sql.Composable:
    """Array of the names of every broken check.

    A predicate that reckons with a value far out of its bounds may fail rather than answer. `careful` asks the predicates
    only of rows whose columns are all in order.
    """
    if not found:
        return sql.SQL("array[]::text[]")
    if careful:
        by_column = any_of([check for check in found if "." in check[0]])
        guarded = sql.SQL("case when {} then false else {} end")
        found = [(name, broken if "." in name else guarded.format(by_column, broken)) for name, broken in found]
    cases = (sql.SQL("case when {} then {} end").format(broken, sql.Literal(name)) for name, broken in found)
    return sql.SQL("array_remove(array[{}], null)").format(sql.SQL(", ").join(cases))


def _typed(column: Column) -> bool:
    return column.type != "text"


def _valid(column: Column) -> sql.Composed:
    name = sql.Identifier(column.name)
    valid = sql.SQL("({} is null or pg_input_is_valid({}, {}))").format(name, name, sql.Literal(column.type))
    if column.type in ("date", "timestamptz"):
        words = sql.SQL("coalesce({} ~* {}, false)").format(name, sql.Literal(DATE_WORDS.removeprefix("(?i)")))
        valid = sql.SQL("({} and not {})").format(valid, words)
    if column.type == "date":
        valid = sql.SQL("({} and coalesce({} ~ {}, true))").format(valid, name, sql.Literal(f"^(?:{DAY})$"))
    return valid


def _column_checks(column: Column) -> list[Check]:
    name, options = sql.Identifier(column.name), column.options
    found: list[Check] = []

    def add(rule: str, broken: str, *values: sql.Composable) -> None:
        found.append((f"{column.name}.{rule}", sql.SQL(broken).format(name, *values)))

    if column.required:
        add("required", "{} is null")
    if column.enum:
        add("enum", "{} not in ({})", sql.SQL(", ").join(sql.Literal(value) for value in column.enum))
    if "pattern" in options:
        found.append((f"{column.name}.pattern", mismatches(name, options["pattern"])))
    if "minLength" in options:
        add("min_length", "char_length({}) < {}", sql.Literal(options["minLength"]))
    if "maxLength" in options:
        # Bytes are counted first: they are at hand, and no text has more characters than bytes.
        limit = sql.Literal(options["maxLength"])
        found.append(
            (
                f"{column.name}.max_length",
                sql.SQL("octet_length({}) > {} and char_length({}) > {}").format(name, limit, name, limit),
            )
        )
    if column.type in ("numeric", "bigint", "date", "timestamptz"):
        kind = sql.SQL(column.type)
        for option, rule, broken in (
            ("minimum", "minimum", "{} < cast({} as {})"),
            ("exclusiveMinimum", "minimum", "{} <= cast({} as {})"),
            ("maximum", "maximum", "{} > cast({} as {})"),
        ):
            if option in options:
                add(rule, broken, sql.Literal(str(options[option])), kind)
    if column.type == "numeric":
        if "maximum" not in options or not {"minimum", "exclusiveMinimum"} & options.keys():
            add("finite", "{} in ('NaN', 'Infinity', '-Infinity')")
        if column.scale is not None:
            add("scale", "scale({}) > {}", sql.Literal(column.scale))
    return found


def mismatches(name: sql.Identifier, pattern: str) -> sql.Composable:
    """SQL that is true where a text column does not match a pattern.

    `^[class]{n,m}$`, the shape of nearly every code list, becomes a length and a search for a foreign character, which cost a
    fifth of the pattern; of alternatives the cheap ones are tried first, and CASE keeps that order.
    """
    alternatives = re.fullmatch(r"\^\(([^()]*)\)\$", pattern)
    pieces = [f"^{piece}$" for piece in alternatives.group(1).split("|")] if alternatives else [pattern]
    wrong = [_shape(name, piece) for piece in pieces]
    rest = [sql.SQL("{} !~ {}").format(name, sql.Literal(p)) for p, w in zip(pieces, wrong, strict=True) if w is None]
    cheap = [condition for condition in wrong if condition is not None]
    if not rest:
        return sql.SQL(" and ").join(sql.SQL("({})").format(condition) for condition in cheap)
    broken: sql.Composable = sql.SQL(" and ").join(rest)
    for condition in cheap:
        broken = sql.SQL("case when not ({}) then false else {} end").format(condition, broken)
    return broken


def _shape(name: sql.Identifier, pattern: str) -> sql.Composable | None:
    """For `^[class]{n,m}$` the SQL that is true where text does not have that shape, else None."""
    match = re.fullmatch(r"\^\[([^\]\\^]+)\]\{(\d+)(?:,(\d+))?\}\$", pattern)
    if not match or not match.group(1).isascii():
        return None
    characters, low, high = match.group(1), match.group(2), match.group(3) or match.group(2)
    return sql.SQL("octet_length({}) not between {} and {} or {} ~ {}").format(
        name, sql.SQL(low), sql.SQL(high), name, sql.Literal(f"[^{characters}]")
    )


def dated(predicate: str, business_date: date) -> str:
    """A predicate with the date in the place of `business_date`."""
    return re.sub(r"\bbusiness_date\b", f"cast('{business_date.isoformat()}' as date)", predicate)


def _names(predicate: str, contract: Contract) -> set[str]:
    words = set(re.findall(r"[a-z_][a-z0-9_]*", re.sub(r"'[^']*'", "", predicate.lower())))
    return words & {column.name for column in contract.columns}
