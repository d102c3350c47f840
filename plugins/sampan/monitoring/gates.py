"""The page of the gates: every check of the newest batch of each feed and of the newest build of the marts, what it asks for,
what was found, and since when. Static, in English and traditional Chinese, without any row's values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from sampan.calendar import HONG_KONG
from sampan.contracts.registry import all_contracts
from sampan.database import connect
from sampan.settings import settings
from sampan.text import printable

# Its file, beside the status page.
NAME = "gates.html"
TEMPLATE = Path(__file__).with_name("gates.html.jinja")
STYLE = Path(__file__).with_name("page.css")
RANK = ("critical", "error", "warning", "info")
SEVERITIES_ZH = {"critical": "關鍵", "error": "錯誤", "warning": "提示", "info": "參考"}
# How suites of batches are named.
FEEDS = "feeds."
SHARES = "expect_column_proportion_of"
# What an expectation asks for, in English and Chinese. {range} is the bound, {values} a list.
BOUNDS = {
    "expect_table_row_count_to_be_between": ("number of rows: {range}", "列數：{range}"),
    "expect_table_row_count_to_equal": ("number of rows: exactly {value}", "列數：剛好 {value}"),
    "expect_column_values_to_be_between": ("each {column} is {range}", "每個 {column} 為{range}"),
    "expect_column_values_to_not_be_null": ("each row has a {column}", "每列均有 {column}"),
    "expect_column_values_to_be_unique": ("no duplicate {column}", "{column} 不重複"),
    "expect_compound_columns_to_be_unique": (
        "no duplicate combination of {column_list}",
        "{column_list} 的組合不重複",
    ),
    "expect_column_values_to_match_regex": ("each {column} has the form {regex}", "每個 {column} 的格式為 {regex}"),
    "expect_column_values_to_be_in_set": ("each {column} is one of {values}", "每個 {column} 屬於 {values}"),
    "expect_column_distinct_values_to_be_in_set": ("each {column} is one of {values}", "每個 {column} 屬於 {values}"),
    "expect_column_distinct_values_to_contain_set": ("{column} has at least {values}", "{column} 最少包括 {values}"),
    "expect_column_unique_value_count_to_be_between": (
        "number of different {column}: {range}",
        "不同 {column} 的數目：{range}",
    ),
    "expect_column_proportion_of_non_null_values_to_be_between": (
        "{range} of rows have a {column}",
        "{range}的列有 {column}",
    ),
    "expect_column_max_to_be_between": ("the highest {column} is {range}", "{column} 最大值為{range}"),
    "expect_column_min_to_be_between": ("the lowest {column} is {range}", "{column} 最小值為{range}"),
    "expect_column_sum_to_be_between": ("the sum of {column} is {range}", "{column} 總和為{range}"),
    "expect_column_mean_to_be_between": ("the mean of {column} is {range}", "{column} 平均值為{range}"),
    "unexpected_rows_expectation": ("no row breaks it", "沒有任何一列違反"),
}


@dataclass(frozen=True)
class Check:
    """The newest result of a rule, and since when it has been the same."""

    suite: str
    subject: str
    checked_at: datetime
    rule: str
    description: str
    severity: str
    success: bool
    expectation: str
    kwargs: Mapping[str, Any]
    observed: Mapping[str, Any] | None
    since: datetime

    @property
    def of_feed(self) -> str | None:
        """The feed whose batch was checked; None for a mart."""
        return self.suite.removeprefix(FEEDS).removesuffix(".rows") if self.suite.startswith(FEEDS) else None

    @property
    def name(self) -> str:
        """What was checked: a feed or a mart."""
        return self.of_feed or self.suite

    @property
    def severity_zh(self) -> str:
        """How severe it is, in Chinese."""
        return SEVERITIES_ZH[self.severity]

    @property
    def bound(self) -> tuple[str, str]:
        """What it asks for, in English and Chinese."""
        return bound(self.expectation, self.kwargs)

    @property
    def query(self) -> str:
        """The SQL that finds rows which break it, where it has one."""
        return " ".join(str(self.kwargs.get("unexpected_rows_query", "")).split())

    @property
    def found(self) -> str:
        """The observed count, sum or share; empty where none is kept."""
        return found(self.expectation, self.observed)


def found(expectation: str, observed: Mapping[str, Any] | None) -> str:
    """The count, sum or share that an expectation observed; empty where none is kept."""
    if not observed:
        return ""
    value = observed["value"]
    return f"{value:.1%}" if expectation.startswith(SHARES) else number(value)


def bound(expectation: str, kwargs: Mapping[str, Any]) -> tuple[str, str]:
    """What an expectation with these arguments asks for, in English and Chinese; its name where it has no words here."""
    texts = BOUNDS.get(expectation)
    if texts is None:
        arguments = ", ".join(f"{name} {value}" for name, value in kwargs.items())
        return (f"{expectation}: {arguments}",) * 2
    is_share = expectation.startswith(SHARES)
    least, most = (
        None if value is None else f"{value:.0%}" if is_share else number(value)
        for value in (kwargs.get("min_value"), kwargs.get("max_value"))
    )
    ranges = (
        (f"{least} to {most}", f"{least} 至 {most} ")
        if least and most
        else (f"at least {least}", f"至少 {least} ")
        if least
        else (f"at most {most}", f"至多 {most} ")
    )
    mostly = kwargs.get("mostly", 1)
    excepted = (
        ("", "") if mostly == 1 else (f", in at least {100 * mostly:g}% of rows", f"（最少 {100 * mostly:g}% 的列）")
    )
    lists = {name: kwargs.get(name) or () for name in ("value_set", "column_list")}
    said = []
    for text, span, tail, comma in zip(texts, ranges, excepted, (", ", "、"), strict=True):
        values = comma.join(map(str, lists["value_set"]))
        columns = comma.join(map(str, lists["column_list"]))
        given = {"column": "", "value": "", "regex": "", **kwargs}
        given |= {"range": span, "values": values, "column_list": columns}
        said.append(text.format(**given).rstrip() + tail)
    return said[0], said[1]


def number(value: Any) -> str:
    """A number with thousands apart, without an empty fraction; any other value as text."""
    if isinstance(value, int | float):
        return f"{value:,.0f}" if float(value).is_integer() else f"{value:,}"
    return str(value)


def checks() -> list[Check]:
    """The newest result of every rule, by suite, those that are broken first and then by severity."""
    query = """
        with results as (
            select
                *,
                coalesce(batch_id, build_no) as subject_no,
                max(coalesce(batch_id, build_no)) over of_suite as newest_no
            from ops.gate_result
            window of_suite as (partition by suite, build_no is null)
        ),

        turned as (
            select suite, rule, build_no is null as is_batch, success, max(checked_at) as last_at
            from results
            group by suite, rule, build_no is null, success
        )

        select
            newest.suite,
            coalesce('batch ' || newest.batch_id, 'build ' || newest.build_no) as subject,
            newest.checked_at, newest.rule, newest.description, newest.severity, newest.success, newest.expectation,
            newest.kwargs, newest.observed,
            (
                select min(same.checked_at) from results as same
                where
                    same.suite = newest.suite and same.rule = newest.rule
                    and same.checked_at > coalesce(turned.last_at, '-infinity')
            ) as since
        from results as newest
        left join turned
            on newest.suite = turned.suite and newest.rule = turned.rule
            and (newest.build_no is null) = turned.is_batch and newest.success <> turned.success
        where newest.subject_no = newest.newest_no
        order by newest.suite, newest.success, newest.rule
    """
    with connect("builder") as connection:
        connection.execute("set timezone to 'Asia/Hong_Kong'")
        found = [Check(*row) for row in connection.execute(query).fetchall()]
    return sorted(found, key=lambda check: (check.suite, check.success, RANK.index(check.severity), check.rule))


def render(status: str) -> str:
    """The page as HTML. `status` is the file of the status page beside it."""
    found, contracts = checks(), all_contracts()

    def groups(of_marts: bool) -> list[dict[str, Any]]:
        chosen = [check for check in found if (check.of_feed is None) == of_marts]
        made = []
        for _, members in groupby(chosen, lambda check: check.name):
            listed = list(members)
            feed = listed[0].of_feed
            made.append(
                {
                    "name": listed[0].name,
                    "title": contracts[feed].title if feed in contracts else "",
                    "subject": listed[0].subject,
                    "at": _at(listed[0].checked_at),
                    "broken": sum(not check.success for check in listed),
                    "checks": listed,
                }
            )
        return made

    return filled(
        TEMPLATE,
        status=status,
        written_at=_at(datetime.now(HONG_KONG)),
        broken=sorted((check for check in found if not check.success), key=lambda check: RANK.index(check.severity)),
        count=len(found),
        sections=[
            {"en": "Marts, in the newest build", "zh": "資料集市，最近一次建構", "groups": groups(True)},
            {"en": "Feeds, in their newest batch", "zh": "資料來源，最近一批", "groups": groups(False)},
        ],
        at=_at,
        clean=lambda text: printable(text, ""),
    )


def filled(template: Path, **values: Any) -> str:
    """A template of a static page with its values, each escaped, and the style that the pages share."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    style = Markup(STYLE.read_text(encoding="utf-8"))  # noqa: S704 - a file of ours
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        style=style, synthetic=settings().synthetic, **values
    )


def _at(time: datetime) -> str:
    return f"{time.astimezone(HONG_KONG):%F %R}"
