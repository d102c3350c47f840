"""A contract's types and row rules as SQL that says which rows break which of them, all in one pass."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date

from psycopg import sql

from sampan.contract import Column, Contract
from sampan.reading import DATE_WORDS

Check = tuple[str, sql.Composable]


def checks(contract: Contract, columns: Iterable[Column], business_date: date) -> list[Check]:
    """Every rule that a row of these columns can break, as (rule, SQL that is true where the row breaks it)."""
    columns = list(columns)
    found = [check for column in columns for check in _column_checks(column)]
    have = {column.name for column in columns}
    for rule in contract.row_rules:
        predicate = rule.predicate or ""
        if rule.severity in ("critical", "error") and _names(predicate, contract) <= have:
            found.append((rule.name, sql.SQL(f"({_dated(predicate, business_date)}) is false")))
    return found


def advice(contract: Contract, columns: Iterable[Column], business_date: date) -> list[Check]:
    """Row rules that warn only: their broken rows are counted, not quarantined."""
    have = {column.name for column in columns}
    return [
        (rule.name, sql.SQL(f"({_dated(rule.predicate or '', business_date)}) is false"))
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


def all_broken(found: list[Check]) -> sql.Composable:
    """Array of the names of every broken check."""
    if not found:
        return sql.SQL("array[]::text[]")
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
        found.append((f"{column.name}.pattern", sql.SQL("not ({})").format(matches(name, options["pattern"]))))
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
        if "maximum" not in options:
            add("finite", "{} in ('NaN', 'Infinity', '-Infinity')")
        if column.scale is not None:
            add("scale", "scale({}) > {}", sql.Literal(column.scale))
    return found


def matches(name: sql.Identifier, pattern: str) -> sql.Composable:
    """SQL that is true where a text column matches a pattern.

    `^[class]{n,m}$`, the shape of nearly every code list, becomes a trim and a length, which cost a tenth of a regular
    expression; alternatives of which some have that shape try those first.
    """
    alternatives = re.fullmatch(r"\^\(([^()]*)\)\$", pattern)
    pieces = [f"^{part}$" for part in alternatives.group(1).split("|")] if alternatives else [pattern]
    done = [_simple(name, piece) or sql.SQL("{} ~ {}").format(name, sql.Literal(piece)) for piece in pieces]
    return sql.SQL(" or ").join(done)


def _simple(name: sql.Identifier, pattern: str) -> sql.Composable | None:
    match = re.fullmatch(r"\^\[([^\]\\^]+)\]\{(\d+)(?:,(\d+))?\}\$", pattern)
    if not match:
        return None
    characters = re.sub(r"(.)-(.)", lambda span: _span(*span.groups()), match.group(1))
    if not characters.isascii():
        return None
    low, high = match.group(2), match.group(3) or match.group(2)
    return sql.SQL("(octet_length({}) between {} and {} and ltrim({}, {}) = '')").format(
        name, sql.SQL(low), sql.SQL(high), name, sql.Literal(characters)
    )


def _span(first: str, last: str) -> str:
    return "".join(chr(code) for code in range(ord(first), ord(last) + 1))


def _dated(predicate: str, business_date: date) -> str:
    return re.sub(r"\bbusiness_date\b", f"cast('{business_date.isoformat()}' as date)", predicate)


def _names(predicate: str, contract: Contract) -> set[str]:
    words = set(re.findall(r"[a-z_][a-z0-9_]*", re.sub(r"'[^']*'", "", predicate.lower())))
    return words & {column.name for column in contract.columns}
