"""The line pattern: a sound line fits it, and a line that breaks a proven rule does not."""

from __future__ import annotations

import csv
import io
import random
from dataclasses import replace
from datetime import date, timedelta

import pytest
import re2
from sampan.contracts import line_pattern
from sampan.contracts.model import Column
from sampan.contracts.registry import get_contract

from tests.factory import feeds, rows

CSV = feeds(lambda contract: contract.source.format in ("csv", "parquet"), least=3)
LINE = (
    Column("code", "code", "string", "Code.", required=True, enum=("a", "b.c")),
    Column("number", "number", "string", "Number.", options={"pattern": "^([0-9]{2}|x[a-f]+)$"}),
    Column("name", "name", "string", "Name.", required=True, options={"maxLength": 6}),
    Column("value", "value", "number", "Value.", required=True),
    Column("note", "note", "string", "Note."),
)


def fits(columns: tuple[Column, ...], line: str) -> bool:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    return bool(re2.compile(line_pattern.fitting_lines(columns), options).fullmatch(line.encode()))


def as_line(columns: tuple[Column, ...], row: dict[str, str | None], quoting: int) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n", quoting=quoting).writerow([row[column.name] or "" for column in columns])
    return out.getvalue()


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL], ids=["bare", "quoted"])
@pytest.mark.parametrize("feed", CSV)
def test_a_line_fits_when_it_is_sound(feed, quoting):
    columns = tuple(get_contract(feed).stored)
    assert all(fits(columns, as_line(columns, row, quoting)) for row in rows(feed, 20))


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL], ids=["bare", "quoted"])
@pytest.mark.parametrize("feed", CSV)
def test_a_line_does_not_fit_when_it_breaks_a_proven_rule(feed, quoting):
    contract, row = get_contract(feed), rows(feed, 1)[0]
    broken = {
        "required": None, "enum": "no such code", "pattern": "\u3000no such pattern\u3000", "finite": "NaN",
        "scale": "1.0000001",
    }  # fmt: skip
    proven = line_pattern.proven_rules(contract)
    assert proven
    for rule in proven:
        name, kind = rule.split(".")
        column = contract.column(name)
        if kind in ("minimum", "maximum"):
            step = -1 if kind == "minimum" else 1
            bound = column.options[kind]
            wrong = str(date.fromisoformat(bound) + timedelta(step) if column.type == "date" else bound + step)
        else:
            wrong = broken[kind] if kind in broken else "x" * (column.options["maxLength"] + 1)
        assert not fits(tuple(contract.stored), as_line(tuple(contract.stored), row | {name: wrong}, quoting)), rule


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a,12,name,1,note\n", True),
        ("b.c,xaf,name,1,\n", True),
        ("b.c,xaf,name,1,\r\n", False),
        ("b.c,xaf,name,0x1F,\n", False),
        ("b.c,xaf,name,1e3,\n", False),
        ("a,,name,1,\na,12,name,2,x\n", True),
        ('"a","12","name","1","a, b"\n', True),
        ("bxc,12,name,1,\n", False),
        ("a,123,name,1,\n", False),
        ("a,12,names of,1,\n", False),
        ('a,12,"na,me",1,\n', True),
        ('a,12,"na,me of",1,\n', False),
        ('a,12,"",1,\n', False),
        ("a,12,name,,\n", False),
        ("a,12,name,1\n", False),
        ("a,12,name,1,,\n", False),
        ('a,12,na"me,1,\n', False),
        ('a,12,"na""me",1,\n', False),
        ('a,12,name,1,"two\nlines"\n', False),
        ("a,12,name,1,note", False),
        ("a,12,name,1,no\rte\n", False),
        ("a,12,\u540d\u540d,1,\u8a3b\n", True),
        ("a,12,\u540d\u540d\u540d,1,\u8a3b\n", False),
    ],
)
def test_a_line_fits_only_when_every_field_keeps_its_contract(line, expected):
    assert fits(LINE, line) is expected


@pytest.mark.parametrize("type_of", ["integer", "number"])
@pytest.mark.parametrize(
    ("least", "most"), [(0, 999), (1, 999), (0, 1000), (1, 1000), (0, 360), (1, 907), (0, 95), (0, 7), (1, 1), (0, 1)]
)
def test_a_number_fits_when_it_is_within_its_bounds(least, most, type_of):
    column = Column("a", "a", type_of, "A.", options={"minimum": least, "maximum": most})
    lines = re2.compile(line_pattern.fitting_lines([column]).decode())
    given = [f"{zeros}{number}" for number in range(1, 2001) for zeros in ("", "0", "00")] + ["0", "00"]
    found = {text for text in given if lines.fullmatch(f"{text}\n")}
    # Of a number with decimals only 0 is a least one that a pattern can tell.
    is_told = type_of == "integer" or least == 0
    assert found == {text for text in given if not is_told or least <= int(text) <= most}
    if type_of == "number":
        decimals = [(f"{most}.0", True), (f"{most - 1}.99", True), (f"{most}.01", not is_told), ("-1", not is_told)]
        assert [bool(lines.fullmatch(f"{text}\n")) for text, _ in decimals] == [fits for _, fits in decimals]


def test_a_date_fits_when_its_year_is_wholly_within_its_bounds():
    column = Column("a", "a", "date", "A.", options={"minimum": "1998-02-01", "maximum": "2024-12-31"})
    lines = re2.compile(line_pattern.fitting_lines([column]).decode())
    days = [date(1995, 1, 1) + timedelta(number) for number in range(12_000)]
    for form in ("%Y-%m-%d", "%Y%m%d"):
        found = [day for day in days if lines.fullmatch(f"{day:{form}}\n")]
        assert found == [day for day in days if date(1999, 1, 1) <= day <= date(2024, 12, 31)]
    assert not any(lines.fullmatch(f"{text}\n") for text in ("2001-02-29", "1900-02-29", "2012-13-01", "2012-00-10"))


@pytest.mark.parametrize("pattern", ["^[^0-9]+$", "^.{3}$", "^[a,b]+$", "[0-9]+", r"^\d{8}$", '^["]$'])
def test_a_pattern_is_left_to_the_gate_when_it_could_mean_something_else(pattern):
    contract = replace(get_contract(CSV[0]), columns=(Column("a", "a", "string", "A.", options={"pattern": pattern}),))
    assert not line_pattern.proven_rules(contract)
    assert fits(contract.columns, "anything\n")


def test_the_sha256_changes_when_a_contract_becomes_stricter():
    contract = get_contract("customs_declarations")
    chance = random.Random(1)
    for column in chance.sample([c for c in contract.columns if c.enum or "maxLength" in c.options], 5):
        stricter = replace(column, enum=column.enum[:-1], options=column.options | {"maxLength": 1})
        columns = tuple(stricter if c is column else c for c in contract.columns)
        changed = line_pattern.proven_rules_sha256(replace(contract, columns=columns))
        assert changed != line_pattern.proven_rules_sha256(contract)
