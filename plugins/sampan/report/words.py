"""Numbers, dates, names of codes and sentences, as a reader of English or of traditional Chinese expects them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from sampan.report.questions import Question
from sampan.settings import read_yaml
from sampan.text import printable

LABELS = Path(__file__).with_name("labels.yml")
LANGUAGES = {"en": "English", "zh": "繁體中文"}
# As browsers and readers of pages aloud want to know it.
TAGS = {"en": "en", "zh": "zh-Hant-HK"}
NOTHING = {"en": "not shown", "zh": "不予顯示"}
# The unit is in a column's name: its last word, unless labels.yml says another one.
UNITS = {
    "hkd": "hkd", "cny": "cny", "share": "share", "rate": "share", "ratio": "ratio", "pct": "pct", "count": "count",
    "month": "month", "date": "date", "days": "days", "year": "year",
}  # fmt: skip
# The dimension of a code: columns that are named otherwise say so in labels.yml.
SIGNS = {"hkd": {"en": "HK$", "zh": "港元"}, "cny": {"en": "CNY", "zh": "人民幣元"}, "share": {"en": "%", "zh": "%"}}
SIGNS |= {"pct": SIGNS["share"], "days": {"en": "days", "zh": "日"}}
STEPS = {"en": ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")), "zh": ((1e8, "億"), (1e4, "萬"))}
CURRENCIES = {"hkd": {"en": "HK${}", "zh": "{}港元"}, "cny": {"en": "CNY {}", "zh": "人民幣{}元"}}

# Codes that people say with their names.
SAID = ("hs_chapter", "customs_regime")
CHINESE = "[\u2e80-\uffef]"

Names = Mapping[str, Mapping[str, tuple[str, str]]]
Row = Mapping[str, Any]


@cache
def labels() -> dict[str, Any]:
    """What labels.yml says: `columns` (en, zh, unit, codes), `values` by column and value, `texts` of the pages."""
    found: dict[str, Any] = read_yaml(LABELS)
    return found


def unit_of(column: str) -> str:
    """The unit of a column: hkd, cny, share (of 1), pct, ratio, count, days, months, month, date, year, yes_no, number or
    text."""
    known = labels()["columns"].get(column, {}).get("unit")
    if known:
        return str(known)
    if column.startswith(("is_", "has_", "with_trade_", "trends_are_")):
        return "yes_no"
    return UNITS.get(column.rpartition("_")[2], "text")


class Words:
    """What a page says in one language. `names` has the names of codes: by list, by code, English and Chinese."""

    def __init__(self, language: str, names: Names) -> None:
        self.language, self.names, self.place = language, names, list(LANGUAGES).index(language)

    def text(self, key: str, **values: Any) -> str:
        """A text of the pages, with values filled in."""
        return str(labels()["texts"][key][self.language]).format(**values)

    def label(self, column: str) -> str:
        """The heading of a column, without its unit."""
        known = labels()["columns"].get(column)
        return str(known[self.language]) if known else column

    def heading(self, column: str) -> str:
        """The heading of a column, with its unit."""
        sign = SIGNS.get(unit_of(column), {}).get(self.language)
        return f"{self.label(column)} ({sign})" if sign and self.language == "en" else self._zh_heading(column, sign)

    def _zh_heading(self, column: str, sign: str | None) -> str:
        return f"{self.label(column)}（{sign}）" if sign else self.label(column)

    # --- values -------------------------------------------------------------------------------------------------------

    def value(self, column: str, value: Any, row: Row | None = None) -> str:
        """A value of a column as text. None is empty: what a floor hides and what is not known are told in the text."""
        if value is None:
            return ""
        unit = unit_of(column)
        if isinstance(value, bool):
            return self.text("yes_" if value else "no_")
        if isinstance(value, datetime):
            return f"{value:%Y-%m-%d %H:%M}"
        if isinstance(value, date):
            return f"{value:%Y-%m}" if unit == "month" else f"{value:%Y-%m-%d}"
        if isinstance(value, str):
            # The library that draws ends the whole process when a text has ESC; a page would show others from right to left.
            return printable(self.name(column, value, row))
        return self._number(value, unit)

    def mark(self, column: str, value: Any, row: Row | None = None) -> str:
        """A value as a chart's axis or legend shows it: a yes or no says what of, as no heading stands over it there."""
        text = self.value(column, value, row)
        return self.text("of_", what=self.label(column), value=text) if isinstance(value, bool) else text

    def name(self, column: str, code: str, row: Row | None = None) -> str:
        """The name of a code in a column; the code itself when it has no name."""
        known = labels()["values"].get(column, {}).get(code)
        if known:
            return str(known[self.language])
        codes = labels()["columns"].get(column, {}).get("codes", column)
        # What a column means may stand in another one of the row.
        codes = codes if isinstance(codes, str) else codes["by"].get((row or {}).get(codes["column"]), column)
        name = self.names.get(codes, {}).get(code)
        if name is None:
            return (
                code
                if codes == column
                else str(labels()["values"].get(codes, {}).get(code, {}).get(self.language, code))
            )
        return f"{code} {name[self.place]}" if codes in SAID and code != "*" else name[self.place]

    def _number(self, value: Any, unit: str) -> str:
        if unit == "months":
            return self.text("months_long", count=value)
        if unit == "year":
            return f"{value:.0f}"
        if unit == "share":
            return f"{100 * value:.1f}"
        if unit in ("ratio", "pct", "days", "number"):
            return f"{value:,.3f}" if unit == "ratio" else f"{value:,.1f}"
        whole = value == int(value) or abs(value) >= 100
        return f"{value:,.0f}" if whole else f"{value:,.2f}"

    # --- sentences ----------------------------------------------------------------------------------------------------

    def sentence(self, question: Question, rows: Sequence[Row], facts: Row) -> str:
        """The answer in a sentence. Its template sees `rows`, `facts` and the functions of `_helpers`."""
        template = _sentences().from_string(question.answer[self.language])
        return printable(joined(template.render(rows=rows, facts=facts, **self._helpers(rows))))

    def _helpers(self, rows: Sequence[Row]) -> dict[str, Callable[..., Any]]:
        """What a sentence may use.

        n, money, pct, points, x, month, day, name: values as text. where, first, last: rows with these values, and with
        any in the column `known`. top: the row with the greatest value, be it negative. total, lead, of: a sum, the
        category with the greatest sum, and a share.
        """

        def shown(form: Callable[[Any], str]) -> Callable[[Any], str]:
            return lambda value: NOTHING[self.language] if value is None else form(value)

        def where(known: str | None = None, **wanted: Any) -> list[Row]:
            found = [row for row in rows if all(row[column] == value for column, value in wanted.items())]
            return [row for row in found if known is None or row[known] is not None]

        def total(column: str, **wanted: Any) -> Any:
            return sum((row[column] or 0) for row in where(**wanted))

        def top(column: str, **wanted: Any) -> Row | None:
            return max(where(column, **wanted), key=lambda row: abs(row[column]), default=None)

        def lead(category: str, column: str, **wanted: Any) -> tuple[Any, Any]:
            """The category with the greatest sum of a column, and that sum."""
            sums: dict[Any, Any] = {}
            for row in where(**wanted):
                sums[row[category]] = sums.get(row[category], 0) + (row[column] or 0)
            return max(sums.items(), key=lambda item: item[1], default=(None, None))

        return {
            "n": shown(lambda value: f"{value:,.0f}"),
            "money": lambda value, unit="hkd": self.money(value, unit),
            "pct": shown(lambda value: f"{100 * value:.1f}%"),
            "points": shown(lambda value: f"{value:,.1f}%"),
            "x": shown(lambda value: f"{value:,.2f}"),
            "month": shown(self.month),
            "day": shown(self.day),
            "name": lambda column, code, row=None: (
                NOTHING[self.language] if code is None else re.sub("^The ", "the ", self.name(column, code, row))
            ),
            "of": lambda part, whole: part / whole if whole else None,
            "where": where,
            "total": total,
            "top": top,
            "lead": lead,
            "first": lambda known=None, **wanted: next(iter(where(known, **wanted)), None),
            "last": lambda known=None, **wanted: next(iter(reversed(where(known, **wanted))), None),
        }

    def money(self, value: Any, unit: str = "hkd") -> str:
        """An amount in words: HK$1.2 million, 120萬港元."""
        if value is None:
            return NOTHING[self.language]
        amount, sign = float(abs(value)), "−" if value < 0 else ""
        step, word = next(((step, word) for step, word in STEPS[self.language] if amount >= step), (1, ""))
        if self.language == "en" and word == "thousand":
            step, word = 1, ""
        figure = (
            f"{amount / step:,.0f}"
            if step == 1
            else f"{amount / step:,.3g}"
            if amount / step < 1000
            else f"{amount / step:,.0f}"
        )
        number = figure + (f" {word}" if word and self.language == "en" else word)
        return sign + CURRENCIES[unit][self.language].format(number)

    def month(self, value: date) -> str:
        """A month in words."""
        return f"{value:%B %Y}" if self.language == "en" else f"{value.year}年{value.month}月"

    def day(self, value: date) -> str:
        """A day in words."""
        return f"{value.day} {value:%B %Y}" if self.language == "en" else f"{value.year}年{value.month}月{value.day}日"

    @cached_property
    def scales(self) -> tuple[tuple[float, str], ...]:
        """Steps in which a large amount is told, largest first."""
        return STEPS[self.language]


def joined(text: str) -> str:
    """Lines of a file as one. English has a space where a line ends; beside a Chinese character there is none."""
    return re.sub(rf"(?<={CHINESE}) | (?={CHINESE})", "", " ".join(text.split()))


@cache
def _sentences() -> Environment:
    # Sentences are plain text: pages escape them.
    return Environment(undefined=StrictUndefined, autoescape=False)  # noqa: S701


def raw(value: Any) -> str:
    """A value as SQL gave it, for machines: the number behind what the page shows, dates as ISO 8601."""
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
