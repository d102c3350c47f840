"""A contract's rules as SQL in a real PostgreSQL, compared with the same rules written in Python."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sampan.contracts import row_rules as rules
from sampan.contracts.model import Column, Rule
from sampan.contracts.registry import all_contracts, get_contract
from sampan.settings import settings

from tests.factory import value

DAY = date(2026, 7, 6)
COLUMNS = [(feed, column) for feed, contract in all_contracts().items() for column in contract.stored]
FOREIGN = ("", " ", "0", "Z", "z", "é", "\uff11", "香", "\n", "'", "%", "\\", "\U0001f600")


@pytest.fixture
def ask(sampan: Any) -> Iterator[Callable[..., list[Any]]]:
    """Which of some values (a column of one type) an SQL condition is true of; null counts as no."""
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as connection:
        connection.execute("set timezone to 'Asia/Hong_Kong'")

        def run(name: str, kind: str, condition: sql.Composable, values: list[str | None]) -> list[bool]:
            query = sql.SQL(
                "select coalesce({}, false) from (select _place, cast(_text as {}) as {} from"
                " unnest(%s::text[]) with ordinality as given (_text, _place)) as t order by _place"
            ).format(condition, sql.SQL(kind), sql.Identifier(name))
            return [row[0] for row in connection.execute(query, [values])]

        yield run


def mutated(text: str, chance: random.Random) -> str:
    """A text changed in one place."""
    place = chance.randrange(len(text) + 1)
    return text[:place] + chance.choice(FOREIGN) + text[place + chance.randrange(2) :]


def matches(pattern: str, text: str) -> bool:
    """Whether a whole text matches: in Python `$` also stands before a line's end, in SQL it does not."""
    whole = pattern.removesuffix("$") + r"\Z" if pattern.endswith("$") else pattern
    return re.search(whole, text, re.ASCII) is not None


def expected(column: Column, item: str | None) -> set[str]:
    """Rules of its column that a value breaks."""
    options, broken = column.options, set()
    if item is None:
        return {"required"} if column.required else set()
    if column.enum and item not in column.enum:
        broken.add("enum")
    if "pattern" in options and not matches(options["pattern"], item):
        broken.add("pattern")
    if len(item) < options.get("minLength", 0):
        broken.add("min_length")
    if len(item) > options.get("maxLength", 10**9):
        broken.add("max_length")
    if column.type in ("numeric", "bigint"):
        number = Decimal(item)
        low, above = options.get("minimum"), options.get("exclusiveMinimum")
        # NaN is not a number: neither below a bound nor, as in PostgreSQL, above it.
        small = not number.is_nan() and (
            (low is not None and number < Decimal(str(low))) or (above is not None and number <= Decimal(str(above)))
        )
        if small:
            broken.add("minimum")
        if "maximum" in options and not number.is_nan() and number > Decimal(str(options["maximum"])):
            broken.add("maximum")
        bounded = "maximum" in options and (low is not None or above is not None)
        if column.type == "numeric" and (number.is_nan() or (not bounded and not number.is_finite())):
            broken.add("finite")
        if column.scale is not None and number.is_finite() and -number.as_tuple().exponent > column.scale:
            broken.add("scale")
    if column.type == "date":
        if "minimum" in options and item < str(options["minimum"]):
            broken.add("minimum")
        if "maximum" in options and item > str(options["maximum"]):
            broken.add("maximum")
    return broken


def tried(column: Column, chance: random.Random) -> list[str | None]:
    """Values right and wrong, at the bounds and around them."""
    found: list[str | None] = [None, *(value(column, DAY, chance) for _ in range(20))]
    options = column.options
    if column.type == "text":
        texts = [item for item in found if item is not None] or ["x"]
        found += [mutated(chance.choice(texts), chance) for _ in range(60)]
        found += ["x" * length for length in (options.get("maxLength", 60), options.get("maxLength", 60) + 1)]
        found += ["香" * options["maxLength"]] if "maxLength" in options else []
    elif column.type in ("numeric", "bigint"):
        for bound in {options.get(name) for name in ("minimum", "exclusiveMinimum", "maximum")} - {None}:
            found += [str(Decimal(str(bound)) + step) for step in (-1, 0, 1) if abs(Decimal(str(bound)) + step) < 2**63]
        if column.type == "numeric":
            found += ["0.5", "0.05", "0.005", "0.0005", "-0.005", "NaN", "Infinity", "-Infinity"]
    elif column.type == "date":
        for name in {"minimum", "maximum"} & options.keys():
            bound = date.fromisoformat(str(options[name]))
            found += [str(bound.fromordinal(bound.toordinal() + step)) for step in (-1, 0, 1)]
    return found


def test_checks_agree_with_python_for_every_column_of_every_contract(ask):
    chance, judged, broken_rules = random.Random(1), 0, set()
    for feed, column in COLUMNS:
        if column.type == "timestamptz":
            continue
        values = tried(column, chance)
        wanted = [expected(column, item) for item in values]
        found: list[set[str]] = [set() for _ in values]
        contract = replace(get_contract(feed), row_rules=())
        for check in rules.checks(contract, [column], DAY):
            rule = check.name.removeprefix(f"{column.name}.")
            for position, is_broken in enumerate(ask(column.name, column.type, check.broken, values)):
                if is_broken:
                    found[position].add(rule)
        wrong = [(v, f, w) for v, f, w in zip(values, found, wanted, strict=True) if f != w]
        assert not wrong, (feed, column.name, wrong[:3])
        judged += len(values)
        broken_rules |= set().union(*wanted)
    assert judged > 10_000
    assert broken_rules >= {"required", "enum", "pattern", "max_length", "minimum", "maximum", "scale"}


@pytest.mark.parametrize(
    "pattern",
    [
        "^[0-9]{8}$",
        "^[A-Z0-9]{2,4}$",
        "^([0-9]{8}|[A-Z]{2})$",
        "^([A-Z][0-9]+|[0-9]{3}|N/A)$",
        "^[a-z_-]{1,3}$",
        "^[^x]{2}$",
    ],
)
def test_pattern_violation_means_the_same_when_it_avoids_the_pattern(ask, pattern):
    chance = random.Random(pattern)
    alphabet = ["0", "9", "A", "Z", "a", "x", "_", "-", "/", "N", *FOREIGN]
    texts = ["".join(chance.choices(alphabet, k=chance.randrange(10))) for _ in range(2000)]
    texts += ["12345678", "1234567a", "AB", "A1", "123", "N/A", "AB\n", "12345678\n", "１２３４５６７８"]
    column = sql.Identifier("text_column")
    found = ask("text_column", "text", rules.pattern_violation(column, pattern), texts)
    assert found == [not matches(pattern, text) for text in texts]
    assert 0 < sum(found) < len(texts)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("integer", ["0", "-7", " 12 ", "9223372036854775807", None], ["1.5", "x", "", "9223372036854775808", "１"]),
        ("number", ["0", "-1.50", "1e3", None], ["1,000", "x", "", "--1"]),
        ("date", ["2026-07-06", "0001-01-01", None], ["2026-02-30", "today", "infinity", "now", "", "06.07.26x"]),
        ("timestamp", ["2026-07-06 09:00", "2026-07-06T09:00:00+08:00", None], ["2026-07-06 25:00", "tomorrow", "x"]),
        ("boolean", ["true", "false", "t", None], ["2", "maybe", ""]),
    ],
)  # fmt: skip
def test_type_checks_accept_what_the_database_can_read(ask, kind, good, bad):
    column = Column("given", "Given", kind, "A value.")
    (check,) = rules.type_checks([column])
    assert (check.name, check.column) == ("given.type", "given")
    assert ask("given", "text", check.broken, [*good, *bad]) == [False] * len(good) + [True] * len(bad)


def test_safe_casts_give_null_when_a_text_does_not_have_the_type(sampan):
    columns = [Column("a", "A", "integer", "A number."), Column("b", "B", "string", "A text.")]
    query = sql.SQL("select {} from (values ('1', 'x'), ('y', 'y'), (null, null)) as t (a, b)").format(
        rules.safe_casts(columns)
    )
    with psycopg.connect(settings().dsn("loader")) as connection:
        assert connection.execute(query).fetchall() == [(1, "x"), (None, "y"), (None, None)]


def test_all_broken_names_every_broken_rule_and_skips_predicates_when_careful_and_a_column_is_broken(sampan):
    columns = [
        Column("a", "A", "integer", "A number.", required=True, options={"minimum": 1, "maximum": 5}),
        Column("b", "B", "string", "A text.", enum=("x", "y")),
    ]
    row_rules = (
        Rule("a_divides", "Ten is divided.", "error", "10 / a > 2"),
        Rule("b_is_x", "Only a warning.", "warning", "b = 'x'"),
        Rule("of_another_column", "Not asked.", "error", "customs_value > 0"),
    )
    contract = replace(get_contract("customs_declarations"), columns=tuple(columns), row_rules=row_rules)
    found = rules.checks(contract, columns, DAY)
    assert [check.name for check in found][-1] != "b_is_x"
    assert [check.name for check in rules.warning_checks(contract, columns, DAY)] == ["b_is_x"]
    query = sql.SQL("select {} from (values (0, 'z'), (5, 'x'), (2, null), (null, 'y'), (9, 'x')) as t (a, b)").format(
        rules.all_broken([check for check in found if check.name != "of_another_column"], careful=True)
    )
    with psycopg.connect(settings().dsn("loader")) as connection:
        assert [row[0] for row in connection.execute(query)] == [
            ["a.minimum", "b.enum"], ["a_divides"], [], ["a.required"], ["a.maximum"],
        ]  # fmt: skip


def test_checks_leave_a_row_rule_out_when_the_delivery_lacks_its_column():
    contract = get_contract("customs_declarations")
    named = {rule.name for rule in contract.row_rules if rule.severity in ("critical", "error")}
    assert named
    some = [column for column in contract.stored if column.primary_key]
    left = {check.name for check in rules.checks(contract, some, DAY) if check.column is None}
    assert left < named


def test_nothing_is_broken_when_there_are_no_checks(sampan):
    with psycopg.connect(settings().dsn("loader")) as connection:
        query = sql.SQL("select {}, {}").format(rules.any_of([]), rules.all_broken([]))
        assert connection.execute(query).fetchone() == (False, [])


@pytest.mark.parametrize(
    ("predicate", "wanted"),
    [
        ("x <= business_date", "x <= cast('2026-07-06' as date)"),
        ("business_date > my_business_date", "cast('2026-07-06' as date) > my_business_date"),
    ],
)  # fmt: skip
def test_bind_business_date_replaces_the_whole_word_only(predicate, wanted):
    assert rules.bind_business_date(predicate, DAY) == wanted
