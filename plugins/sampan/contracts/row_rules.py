"""A contract's types and row rules as SQL, to find in one pass which rows break which rules."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date

from psycopg import sql

from sampan.contracts.model import Column, Contract
from sampan.contracts.values import SHAPES


@dataclass(frozen=True)
class Check:
    """A rule and the SQL condition that is true for rows that break it."""

    name: str
    """As `quarantine.record.broken_rules` shows it: `<column>.<check>`, or the contract's name of a row rule."""
    broken: sql.Composable
    column: str | None = None
    """The column that it is about; None for a row rule."""


def checks(contract: Contract, columns: Iterable[Column], business_date: date) -> list[Check]:
    """Every rule of these columns that sends a row to quarantine."""
    columns = list(columns)
    found = [check for column in columns for check in _column_checks(column)]
    have = {column.name for column in columns}
    for rule in contract.row_rules:
        predicate = rule.predicate or ""
        if rule.severity in ("critical", "error") and columns_in(predicate, contract) <= have:
            found.append(_row_check(rule.name, predicate, business_date))
    return found


def warning_checks(contract: Contract, columns: Iterable[Column], business_date: date) -> list[Check]:
    """Row rules that only warn: rows that break them are counted, not quarantined."""
    have = {column.name for column in columns}
    return [
        _row_check(rule.name, rule.predicate or "", business_date)
        for rule in contract.row_rules
        if rule.severity in ("warning", "info") and columns_in(rule.predicate or "", contract) <= have
    ]


def _row_check(name: str, predicate: str, business_date: date) -> Check:
    return Check(name, sql.SQL(f"({bind_business_date(predicate, business_date)}) is false"))


def type_checks(columns: Iterable[Column]) -> list[Check]:
    """Checks for columns read as text: whether a value has the column's type, by the same parser that COPY uses."""
    return [
        Check(f"{column.name}.type", sql.SQL("not ({})").format(_valid(column)), column.name)
        for column in columns
        if _typed(column)
    ]


def safe_casts(columns: Iterable[Column], checked: bool = False) -> sql.Composed:
    """Text columns cast to their types, null where the text does not have the type.

    `checked`: the rows have in `_types` the names of the type checks that they break.
    """
    parts = []
    for column in columns:
        name = sql.Identifier(column.name)
        if _typed(column):
            found = sql.SQL("{} <> all(_types)").format(sql.Literal(f"{column.name}.type"))
            cast = sql.SQL("case when {} then cast({} as {}) end as {}")
            parts.append(cast.format(found if checked else _valid(column), name, sql.SQL(column.type), name))
        else:
            parts.append(sql.Composed([name]))
    return sql.SQL(", ").join(parts)


def any_of(found: list[Check]) -> sql.Composable:
    """SQL that is true for rows that break at least one check."""
    if not found:
        return sql.SQL("false")
    return sql.SQL(" or ").join(sql.SQL("({})").format(check.broken) for check in found)


def all_broken(found: list[Check], careful: bool = False) -> sql.Composable:
    """SQL array of the names of the checks that a row breaks.

    A predicate that calculates with a value far outside its bounds can raise an error. With `careful`, predicates are
    evaluated only for rows that break no check of a column.
    """
    if not found:
        return sql.SQL("array[]::text[]")
    if careful:
        by_column = any_of([check for check in found if check.column])
        guarded = sql.SQL("case when {} then false else {} end")
        found = [
            check if check.column else replace(check, broken=guarded.format(by_column, check.broken)) for check in found
        ]
    cases = (sql.SQL("case when {} then {} end").format(check.broken, sql.Literal(check.name)) for check in found)
    return sql.SQL("array_remove(array[{}], null)").format(sql.SQL(", ").join(cases))


def _typed(column: Column) -> bool:
    return column.type != "text"


def _valid(column: Column) -> sql.Composable:
    name = sql.Identifier(column.name)
    valid = sql.SQL("({} is null or pg_input_is_valid({}, {}))").format(name, name, sql.Literal(column.type))
    if shape := SHAPES.get(column.type):
        valid = sql.SQL("({} and coalesce({} ~ {}, true))").format(valid, name, sql.Literal(f"^(?:{shape})$"))
    return valid


def _column_checks(column: Column) -> list[Check]:
    name, options = sql.Identifier(column.name), column.options
    found: list[Check] = []

    def add(rule: str, broken: str, *values: sql.Composable) -> None:
        add_sql(rule, sql.SQL(broken).format(name, *values))

    def add_sql(rule: str, broken: sql.Composable) -> None:
        found.append(Check(f"{column.name}.{rule}", broken, column.name))

    if column.required:
        add("required", "{} is null")
    if column.enum:
        add("enum", "{} not in ({})", sql.SQL(", ").join(sql.Literal(value) for value in column.enum))
    if "pattern" in options:
        add_sql("pattern", pattern_violation(name, options["pattern"]))
    if "minLength" in options:
        add("min_length", "char_length({}) < {}", sql.Literal(options["minLength"]))
    if "maxLength" in options:
        # octet_length is cheap, and a text never has more characters than bytes.
        limit = sql.Literal(options["maxLength"])
        add_sql("max_length", sql.SQL("octet_length({0}) > {1} and char_length({0}) > {1}").format(name, limit))
    is_numeric = column.type == "numeric"
    if column.type in ("numeric", "bigint", "date", "timestamptz"):
        kind = sql.SQL(column.type)
        for option, rule, broken in (
            ("minimum", "minimum", "{} < cast({} as {})"),
            ("exclusiveMinimum", "minimum", "{} <= cast({} as {})"),
            # To PostgreSQL NaN is above every number: to a person it is not a number at all.
            ("maximum", "maximum", "{0} > cast({1} as {2}) and {0} <> 'NaN'" if is_numeric else "{} > cast({} as {})"),
        ):
            if option in options:
                add(rule, broken, sql.Literal(str(options[option])), kind)
    if is_numeric:
        is_bounded = "maximum" in options and {"minimum", "exclusiveMinimum"} & options.keys()
        add("finite", "{} = 'NaN'" if is_bounded else "{} in ('NaN', 'Infinity', '-Infinity')")
        if column.scale is not None:
            add("scale", "min_scale({}) > {}", sql.Literal(column.scale))
    return found


def pattern_violation(name: sql.Identifier, pattern: str) -> sql.Composable:
    """SQL that is true where a text column does not match a pattern.

    `^[class]{n,m}$`, the form of nearly every code, becomes a length check and a search for a character outside the class,
    which take a fifth of the time. The cheap ones of several alternatives are tried first; CASE keeps that order.
    """
    alternatives = re.fullmatch(r"\^\(([^()]*)\)\$", pattern)
    pieces = [f"^{piece}$" for piece in alternatives.group(1).split("|")] if alternatives else [pattern]
    wrong = [_class_violation(name, piece) for piece in pieces]
    rest = [sql.SQL("{} !~ {}").format(name, sql.Literal(p)) for p, w in zip(pieces, wrong, strict=True) if w is None]
    cheap = [condition for condition in wrong if condition is not None]
    if not rest:
        return sql.SQL(" and ").join(sql.SQL("({})").format(condition) for condition in cheap)
    broken: sql.Composable = sql.SQL(" and ").join(rest)
    for condition in cheap:
        broken = sql.SQL("case when not ({}) then false else {} end").format(condition, broken)
    return broken


def _class_violation(name: sql.Identifier, pattern: str) -> sql.Composable | None:
    """For `^[class]{n,m}$`: SQL that is true where a text does not match it. None for other patterns."""
    match = re.fullmatch(r"\^\[([^\]\\^]+)\]\{(\d+)(?:,(\d+))?\}\$", pattern)
    if not match or not match.group(1).isascii():
        return None
    characters, low, high = match.group(1), match.group(2), match.group(3) or match.group(2)
    return sql.SQL("octet_length({}) not between {} and {} or {} ~ {}").format(
        name, sql.SQL(low), sql.SQL(high), name, sql.Literal(f"[^{characters}]")
    )


def bind_business_date(predicate: str, business_date: date) -> str:
    """A predicate with `business_date` replaced by the date."""
    return re.sub(r"\bbusiness_date\b", f"cast('{business_date.isoformat()}' as date)", predicate)


def columns_in(predicate: str, contract: Contract) -> set[str]:
    """Names of the columns that a predicate reads."""
    words = set(re.findall(r"[a-z_][a-z0-9_]*", re.sub(r"'[^']*'", "", predicate.lower())))
    return words & {column.name for column in contract.columns}
