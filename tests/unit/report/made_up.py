"""Answers out of nothing: rows for a question by the names and units of its columns, for tests without a warehouse."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import sqlglot
from sampan.report.answers import Answer, Answers, Coverage
from sampan.report.questions import Question, all_questions
from sampan.report.words import labels, unit_of

HOSTILE = '<script>alert(1)</script>=HYPERLINK("http://x")&\'"深水埗'
COMPLETE = Coverage(
    date(2026, 7, 31), date(2026, 8, 14), (), (("platform_orders", "Platform orders", date(2026, 7, 31)),), None
)


def columns_of(query: str) -> list[str]:
    """Names of the columns that a query gives."""
    return list(sqlglot.parse_one(query, read="postgres").named_selects)


def value_of(column: str, line: int) -> Any:
    """A value that fits a column."""
    known = labels()["values"].get(column)
    unit = unit_of(column)
    if column == "first_year" or unit == "year":
        return Decimal(2024 + line)
    if unit == "yes_no":
        return line % 2 == 0
    if unit in ("month", "date"):
        return date(2026, 1 + line, 1)
    if known:
        return list(known)[line % len(known)]
    if unit == "text":
        return "CN"
    return Decimal("0.1234") * (line + 1) if unit in ("share", "ratio") else Decimal("1234.56") * (line + 1)


def answer(question: Question, rows: int = 4, coverage: Coverage = COMPLETE, **values: Any) -> Answer:
    """An answer with some rows; `values` take the place of those of columns."""
    columns = columns_of(question.shown)
    made = [{column: values.get(column, value_of(column, line)) for column in columns} for line in range(rows)]
    for column, value in (question.quotable or {}).items():
        made = [row | {column: values.get(column, value)} for row in made]
    named = columns_of(question.facts) if question.facts else []
    facts = {name: date(2026, 7, 1) if name == "month" else Decimal(3) for name in named}
    return Answer(question, tuple(columns), tuple(made), facts, coverage)


def answers(*made: Answer, release_no: int = 7, previous_no: int | None = 6) -> Answers:
    """Answers of a release: those given, or one of every question."""
    names = {
        "market_iso2_code": {"CN": ("The mainland of China", "中國內地")},
        "industry_section": {"C": ("Manufacturing", "製造")},
    }
    every = made or tuple(map(answer, all_questions()))
    return Answers(release_no, date(2026, 8, 14), datetime(2026, 8, 17, 4, tzinfo=UTC), previous_no, names, every)
