"""Superset's assets as a ZIP of YAML: one database, datasets of marts and questions, charts and dashboards in two languages.

All of it is made from the question files, dashboards.yml, labels.yml and the models' YAML. Ids follow from names (UUID 5), so
that the import of a later bundle replaces what an earlier one brought. See ADR 0044.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5

import sqlglot
from sqlglot import exp

from sampan.contracts.derive import mart_models
from sampan.report import answers
from sampan.report.charts import BETWEEN, several, stacks
from sampan.report.dashboards import BANK, Dashboard, Number, all_dashboards, readers
from sampan.report.questions import Question, all_questions
from sampan.report.words import LANGUAGES, SAID, SIGNS, STEPS, Words, joined, labels, unit_of
from sampan.settings import settings

NAMESPACE = UUID("6f1d7a52-94f3-5c1e-9d0b-6f1f0c2b7c44")
VERSION = "1.0.0"
# A URI has to be there. The connection is made as the login of the person who asks (superset_config.py), not as this one.
WAREHOUSE_URI = "postgresql+psycopg2://no_login@127.0.0.1/sampan"
# One warehouse. Who writes queries finds all datasets of a database, so what banks read has an entry of its own.
WAREHOUSE, BANKS = "warehouse", "banks"
DATABASES = {WAREHOUSE: "Sampan", BANKS: "Sampan for banks"}
# Tables of names: by what columns call the code, the dimension and its column.
DIMENSIONS = {answers.CODE_OF.get(name, name): name for name in answers.NAMES_OF}
NAMED = {"en": "name_en", "zh": "coalesce(name_zh, name_en)"}
FORMATS = {"share": ".1%", "pct": ",.1f", "ratio": ",.3f", "number": ",.1f", "days": ",.0f", "count": ",d"}
LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
# Charts fill the width, so that a telephone shows them one below the other.
COLUMNS, UNIT = 12, 8
CSS = """
.dashboard-markdown .resizable-container, .dashboard-markdown .dashboard-component-chart-holder
{height: auto !important; min-height: 0; overflow: visible}
.dashboard-markdown p {margin-bottom: 6px}
@media (max-width: 640px) {
.grid-row {flex-direction: column}
.grid-row > div {width: 100%}
.grid-row > .resizable-container, .grid-row > div > .resizable-container {width: 100% !important; max-width: 100% !important}
}
"""
MONEY = ("hkd", "cny")
# The place of a category in the answer. What is only sorted by is not drawn, unless its label is the name of a column: that
# one Superset draws, as a series of its own.
PLACE = {
    "expressionType": "SIMPLE", "column": {"column_name": "chart_place"}, "aggregate": "MIN", "label": "sorted by",
    "hasCustomLabel": True, "optionName": "metric_chart_place",
}  # fmt: skip
# The colours of the pages, under the name that superset_config.py gives them.
COLOUR_SCHEME = "sampan"
# Superset shortens by K, M and B. Chinese counts in ten thousands (萬), large sums in hundred millions (億).
TEN_THOUSAND, CHINESE_UNITS = "萬", {unit: int(size) for size, unit in STEPS["zh"]}
# Superset would show what looks like HTML in a cell as HTML, with its links and pictures: names are partners' texts.
TABLE = {"viz_type": "table", "query_mode": "raw", "allow_render_html": False}
# Kinds of data that a bank reads: the column that names the kind, and columns that only one kind fills.
KIND, ONE_KIND = "consent_scope", re.compile(r"Scope (?P<kind>\w+)\.")
EPOCH = (1980, 1, 1, 0, 0, 0)

Asset = dict[str, Any]


def bundle() -> bytes:
    """The ZIP, the same bytes for the same sources. Its files are JSON, which is YAML and quicker to write."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, asset in sorted(assets().items()):
            archive.writestr(zipfile.ZipInfo(f"sampan/{name}", EPOCH), json.dumps(asset, ensure_ascii=False, indent=1))
    return packed.getvalue()


def assets() -> dict[str, Asset]:
    """Every file of the bundle by its path."""
    found: dict[str, Asset] = {
        "metadata.yaml": {"version": VERSION, "type": "assets", "timestamp": "2026-01-01T00:00:00+00:00"}
    }
    for key, name in DATABASES.items():
        found[f"databases/{key}.yaml"] = {
            "database_name": name, "sqlalchemy_uri": WAREHOUSE_URI, "expose_in_sqllab": key == WAREHOUSE,
            "allow_run_async": False,
            "allow_ctas": False, "allow_cvas": False, "allow_dml": False, "allow_csv_upload": False,
            "extra": {"allows_virtual_table_explore": True, "disable_data_preview": False}, **_identity("database", key),
        }  # fmt: skip
    for model in mart_models():
        found[f"datasets/{model['name']}.yaml"] = _mart(model)
    for language in LANGUAGES:
        maker = _Maker(language)
        for question in all_questions():
            found[f"datasets/{_key(question, language)}.yaml"] = maker.dataset(question)
            found[f"charts/{_key(question, language)}.yaml"] = maker.chart(question)
        for dashboard in all_dashboards():
            found |= maker.dashboard(dashboard)
            for mart in dashboard.marts:
                found[f"datasets/{mart}_{language}.yaml"] = maker.rows_of(mart)
    return found


def assets_of(question: Question, language: str) -> Asset:
    """The dataset of a question in a language."""
    return _Maker(language).dataset(question)


def _identity(kind: str, key: str) -> Asset:
    return {"uuid": str(uuid5(NAMESPACE, f"{kind}/{key}")), "version": VERSION, "is_managed_externally": True}


def _uuid(kind: str, key: str) -> str:
    return str(_identity(kind, key)["uuid"])


def _key(question: Question, language: str) -> str:
    return f"question_{question.number:02}_{language}"


# --- marts ------------------------------------------------------------------------------------------------------------


def _mart(model: Mapping[str, Any]) -> Asset:
    """The dataset of a mart: its columns as dbt describes them, names of codes beside these, and sums that may be made."""
    name, columns = model["name"], []
    named = [column for column in model["columns"] if column["name"] in DIMENSIONS and not name.startswith("dim_")]
    # A bank's login reads its mart and no dimension.
    named = [] if readers((name,)) == (BANK,) else named
    for column in model["columns"]:
        columns.append(_column(column["name"], column["data_type"].upper(), column["description"]))
    selected, joins = ["mart.*"], []
    for column in named:
        code, alias = column["name"], f"{column['name']}_names"
        joins.append(_join(alias, code, f"mart.{code}"))
        for language in LANGUAGES:
            selected.append(f"{alias}.{language} as {code}_{language}")
            columns.append(_column(f"{code}_{language}", "TEXT", f"Name of {code} in {LANGUAGES[language]}."))
    sql = f"select {', '.join(selected)}\nfrom marts.{name} as mart\n" + "\n".join(joins) if named else None
    meta = model["config"]["meta"]
    metrics = [
        {"metric_name": f"sum_{column}", "verbose_name": f"Sum of {column}", "expression": f"SUM({column})"}
        | ({"d3format": ",.0f"} if unit_of(column) in ("hkd", "cny", "count") else {})
        for column in meta.get("sums", ())
    ]
    return {
        "table_name": name, "schema": "marts", "sql": sql, "description": joined(model["description"]),
        "main_dttm_col": next((c["column_name"] for c in columns if c["is_dttm"]), None), "columns": columns,
        "metrics": metrics, **_dataset(name, (name,)),
    }  # fmt: skip


def _dataset(key: str, marts: tuple[str, ...]) -> Asset:
    extra = {"readers": list(readers(marts))}
    database = BANKS if readers(marts) == (BANK,) else WAREHOUSE
    return {"extra": extra, "database_uuid": _uuid("database", database), **_identity("dataset", key)}


def _column(name: str, kind: str, description: str | None, label: str | None = None) -> Asset:
    known = labels()["columns"].get(name)
    return {
        "column_name": name, "type": kind,
        "verbose_name": label or (known["en"] if known else name.replace("_", " ").capitalize()),
        "is_dttm": kind == "DATE" or kind.startswith("TIMESTAMP"), "groupby": True, "filterable": True, "is_active": True,
        "description": description and joined(description),
    }  # fmt: skip


def _join(alias: str, code: str, on: str) -> str:
    """The names of a code, by which rows neither double nor go."""
    names = ", ".join(f"max({NAMED[language]}) as {language}" for language in LANGUAGES)
    table = f"(select {code} as code, {names} from marts.dim_{DIMENSIONS[code]} group by {code})"
    return f"left join {table} as {alias} on {alias}.code = {on}"


# --- questions --------------------------------------------------------------------------------------------------------


class _Maker:
    """What is said in one language."""

    def __init__(self, language: str) -> None:
        self.language, self.words = language, Words(language, {})

    def dataset(self, question: Question) -> Asset:
        """The rows of a question with names for codes, and what its chart needs of them."""
        columns = _selected(question)
        kinds = {column: _kind(column) for column in columns}
        made = [_column(name, kind, None, self.words.heading(name)) for name, kind in kinds.items()]
        if question.chart:
            made += [_column("chart_category", "TEXT", None), _column("chart_rank", "BIGINT", None)]
            made += [_column("is_drawn", "BOOLEAN", None), _column("chart_place", "BIGINT", None)]
        key = _key(question, self.language)
        title = self.words.text("question_no", number=question.number)
        return {
            "table_name": f"{title} · {LANGUAGES[self.language]}", "schema": "marts", "sql": self.sql(question, columns),
            "description": joined(question.title[self.language]), "columns": made, "metrics": [],
            **_dataset(key, question.marts),
        }  # fmt: skip

    def sql(self, question: Question, columns: list[str]) -> str:
        """The query, with names instead of codes, and the category, drawn or not, and rank of each row in the chart."""
        joins: dict[str, str] = {}
        chart = question.chart or {}
        marking = {chart.get("series"), *several(chart.get("category", []))}
        shown = {column: self._shown(column, joins, column in marking) for column in columns}
        selected = [f"{text} as {column}" for column, text in shown.items()]
        query = question.shown.strip()
        if not chart:
            return f"with answer as (\n{query}\n)\nselect {', '.join(selected)}\nfrom answer\n{_lines(joins)}"
        categories = [shown[column] for column in several(chart["category"])]
        category = (
            f"cast({categories[0]} as text)"
            if len(categories) == 1
            else f"concat_ws('{BETWEEN}', {', '.join(categories)})"
        )
        drawn = " and ".join(_condition(column, wanted) for column, wanted in chart.get("where", {}).items()) or "true"
        size = " + ".join(f"abs(coalesce(answer.{value}, 0))" for value in several(chart["value"]))
        return (
            f"with answer as (\n{query}\n),\n"
            "placed as (select answer.*, row_number() over () as chart_place from answer),\n"
            f"named as (\nselect {', '.join(selected)}, {category} as chart_category, {drawn} as is_drawn,\n"
            f"answer.chart_place, case when {drawn} then {size} else 0 end as chart_size\n"
            f"from placed as answer\n{_lines(joins)}),\n"
            "sized as (select named.*, sum(chart_size) over (partition by chart_category) as chart_total from named)\n"
            "select sized.*, dense_rank() over (order by chart_total desc, chart_category) as chart_rank from sized"
        )

    def _shown(self, column: str, joins: dict[str, str], is_marking: bool) -> str:
        """A column of the answer as people read it, also on an axis or in a legend; numbers and dates stay as they are."""
        unit, source = unit_of(column), f"answer.{column}"
        if unit == "yes_no":
            said = self.words.mark if is_marking else self.words.value
            yes, no = (_text(said(column, value)) for value in (True, False))
            return f"case when {source} then {yes} when not {source} then {no} end"
        if unit == "year":
            return f"cast({source} as text)"
        if unit == "months":
            count = self.words.text("months_long", count="{}").split("{}")
            return f"{_text(count[0])} || {source} || {_text(count[1])}"
        if unit != "text":
            return source
        codes = labels()["columns"].get(column, {}).get("codes", column)
        if isinstance(codes, str):
            return self._of_list(column, codes, joins)
        cases = [
            f"when {_text(value)} then {self._of_list(column, name, joins)}" for value, name in codes["by"].items()
        ]
        return f"case answer.{codes['column']} {' '.join(cases)} else {self._of_list(column, column, joins)} end"

    def _of_list(self, column: str, codes: str, joins: dict[str, str]) -> str:
        source, written = f"answer.{column}", labels()["values"]
        known = {**_events(), **written.get("event_id", {})} if codes == "event_id" else written.get(codes, {})
        known = {**known, **written.get(column, {})}
        fallback = source
        if codes in DIMENSIONS:
            alias = f"{column}_{codes}_names"
            joins[alias] = _join(alias, codes, source)
            name = f"{alias}.{self.language}"
            fallback = (
                f"coalesce({source} || ' ' || {name}, {source})" if codes in SAID else f"coalesce({name}, {source})"
            )
        return self._named(source, known, fallback)

    def _named(self, source: str, known: Mapping[str, Mapping[str, str]], fallback: str | None = None) -> str:
        if not known:
            return fallback or source
        cases = " ".join(f"when {_text(code)} then {_text(text[self.language])}" for code, text in known.items())
        return f"case {source} {cases} else {fallback or source} end"

    # --- charts -------------------------------------------------------------------------------------------------------

    def chart(self, question: Question) -> Asset:
        """The chart of a question, or its rows where it has none."""
        key, chart = _key(question, self.language), question.chart
        if chart is None:
            params = _table(_selected(question)) | {"server_page_length": 20}
            title = question.title[self.language]
        else:
            params, title = self._drawn(chart), self._title(chart)
        text = f"{question.number}. {joined(title)}"
        return {
            "slice_name": text, "description": joined(question.title[self.language]), "viz_type": params["viz_type"],
            "params": params, "dataset_uuid": _uuid("dataset", key), **_identity("chart", key),
        }  # fmt: skip

    def _title(self, chart: Mapping[str, Any]) -> str:
        """The title of a chart, with the currency of its figures."""
        title, unit = joined(chart["title"][self.language]), unit_of(several(chart["value"])[0])
        if unit not in MONEY:
            return title
        return (
            f"{title} ({SIGNS[unit]['en']})"
            if self.language == "en"
            else f"{title}（{TEN_THOUSAND}{SIGNS[unit]['zh']}）"
        )

    def _drawn(self, chart: Mapping[str, Any]) -> Asset:
        values, categories = several(chart["value"]), several(chart["category"])
        measured = [*([chart["low"]] if "low" in chart else []), *values, *([chart["high"]] if "high" in chart else [])]
        filters = [_filter("is_drawn", "IS TRUE")] if "where" in chart else []
        if "top" in chart:
            filters.append(_filter("chart_rank", "<=", chart["top"]))
        parted = "series" in chart or len(measured) > 1
        shared: Asset = {
            "metrics": [self._metric(column, stacks(chart)) for column in measured],
            "groupby": [chart["series"]] if "series" in chart else [], "adhoc_filters": filters, "row_limit": 5000,
            "show_legend": parted, "legendOrientation": "top", "legendType": "scroll", "rich_tooltip": True,
            "y_axis_format": self._format(unit_of(values[0])), "color_scheme": COLOUR_SCHEME,
            "truncate_metric": True, "show_empty_columns": False,
        }  # fmt: skip
        if chart["kind"] == "line":
            return shared | {
                "viz_type": "echarts_timeseries_line", "x_axis": categories[0], "x_axis_time_format": "%Y-%m",
                "time_grain_sqla": None, "markerEnabled": True,
            }  # fmt: skip
        shared |= {"x_axis": "chart_category", "x_axis_force_categorical": True}
        if chart["kind"] == "interval":
            # What a floor hides has no place on the axis either.
            filters.append(_filter(values[0], "IS NOT NULL"))
            return shared | {
                "viz_type": "echarts_timeseries_scatter", "markerSize": 12, "xAxisLabelRotation": 45, "truncateYAxis": True,
                "y_axis_bounds": [None, None], "y_axis_title_position": "Left", "y_axis_title_margin": 75,
                "y_axis_title": self._metric(values[0], adds_up=False)["label"],
                # In the order of the answer's rows, as on its page.
                "timeseries_limit_metric": PLACE, "x_axis_sort": PLACE["label"], "x_axis_sort_asc": True,
            }  # fmt: skip
        # What has an order of time keeps it, other categories stand by size.
        by_name = unit_of(categories[0]) in ("year", "date") or categories[0] == "event_id"
        sort = (
            ("name" if by_name else "sum")
            if parted
            else ("chart_category" if by_name else shared["metrics"][0]["label"])
        )
        return shared | {
            "viz_type": "echarts_timeseries_bar", "orientation": "horizontal", "x_axis_sort": sort, "x_axis_sort_asc": True,
            "stack": "Stack" if stacks(chart) else None, "show_value": not parted,
        }  # fmt: skip

    def _format(self, unit: str) -> str:
        """How numbers of a unit are written."""
        if unit == "count":
            # Between none and one an axis has fractions: whole numbers alone would repeat 0 and 1.
            return ",.1~f"
        return ",.2~f" if self._is_chinese_money(unit) else FORMATS.get(unit, "SMART_NUMBER")

    def _is_chinese_money(self, unit: str) -> bool:
        return self.language == "zh" and unit in MONEY

    def _metric(self, column: str, adds_up: bool, chinese_unit: str = TEN_THOUSAND) -> Asset:
        """What is drawn of a column. Where rows do not add up, each point is one row: its own value is the greatest."""
        aggregate, label, unit = "SUM" if adds_up else "MAX", self.words.heading(column), unit_of(column)
        shared: Asset = {
            "column": {"column_name": column}, "hasCustomLabel": True, "optionName": f"metric_{column}"
        }  # fmt: skip
        if not self._is_chinese_money(unit):
            return shared | {"expressionType": "SIMPLE", "aggregate": aggregate, "label": label}
        return shared | {
            "expressionType": "SQL", "sqlExpression": f"{aggregate}({column}) / {CHINESE_UNITS[chinese_unit]}.0",
            "label": f"{self.words.label(column)}（{chinese_unit}{SIGNS[unit]['zh']}）",
        }  # fmt: skip

    # --- dashboards ---------------------------------------------------------------------------------------------------

    def dashboard(self, dashboard: Dashboard) -> dict[str, Asset]:
        """A dashboard, and what belongs to it alone: what may be quoted, its large numbers, and rows of marts."""
        key = f"{dashboard.key}_{self.language}"
        found: dict[str, Asset] = {}
        grid = _Grid()
        other = next(language for language in LANGUAGES if language != self.language)
        slug = f"{dashboard.key}-{other}".replace("_", "-")
        notes = [f"[{LANGUAGES[other]}](/superset/dashboard/{slug}/)", joined(dashboard.about[self.language])]
        if settings().synthetic:
            label = self.words.text("synthetic_label") + self.words.text("colon")
            notes.insert(0, f"**{label}** {self.words.text('synthetic')}")
        grid.text(" · ".join(notes[:-1]) + "\n\n" + notes[-1], 12)
        for place, number in enumerate(dashboard.numbers):
            name = f"charts/{key}_number_{place}.yaml"
            found[name] = self._number(number, f"{key}_number_{place}")
            grid.chart(found[name], 18, COLUMNS // 2)
        if dashboard.questions:
            found[f"datasets/{key}_quotable.yaml"] = self._quotable(dashboard, key)
            name = f"charts/{key}_quotable.yaml"
            found[name] = {
                "slice_name": self.words.text("may_be_quoted"), "viz_type": "table",
                "dataset_uuid": _uuid("dataset", f"{key}_quotable"),
                "params": _table(list(self._quotable_labels())) | {"order_by_cols": ['["number", true]']},
                **_identity("chart", f"{key}_quotable"),
            }  # fmt: skip
            grid.chart(found[name], 16 + 4 * len(dashboard.questions))
        for question in dashboard.questions:
            chart = self.chart(question)
            kind = question.chart["kind"] if question.chart else "table"
            grid.chart(chart, {"interval": 60, "table": 24}.get(kind, 52))
            heading = f"**{question.number}. {joined(question.title[self.language])}**"
            know = LINK.sub(r"\1", joined(question.know[self.language]))
            if question.chart:
                know += f"\n\n{self.words.text('empty_chart')}{self.words.text('colon')} {self.words.text('meaning_nothing')}"
            grid.text(
                f"{heading}\n\n{self.words.text('know')}{self.words.text('colon')} {know}",
                6 + len(know) // (45 if self.language == "en" else 22),
            )
        for mart in dashboard.marts:
            for kind, columns in _kinds(mart).items():
                name = f"{key}_{mart}_{kind}"
                found[f"charts/{name}.yaml"] = chart = self._rows(mart, name, kind, columns)
                grid.chart(chart, 44)
        title = dashboard.title[self.language]
        found[f"dashboards/{key}.yaml"] = {
            "dashboard_title": title, "slug": f"{dashboard.key}-{self.language}".replace("_", "-"), "css": CSS,
            "description": joined(dashboard.about[self.language]), "published": True, "position": grid.position(title),
            "metadata": {
                "color_scheme": COLOUR_SCHEME, "cross_filters_enabled": False, "native_filter_configuration": [],
                "show_native_filters": False, "refresh_frequency": 0,
            }, **_identity("dashboard", key),
        }  # fmt: skip
        return found

    def _number(self, number: Number, key: str) -> Asset:
        question = next(question for question in all_questions() if question.number == number.question)
        filters = [_filter("is_drawn", "IS TRUE")] if question.chart and "where" in question.chart else []
        unit = unit_of(number.column)
        params = {
            "viz_type": "big_number_total", "metric": self._metric(number.column, True, number.chinese_unit),
            "adhoc_filters": filters,
            "y_axis_format": ",d" if unit == "count" else self._format(unit), "header_font_size": 0.6,
            "currency_format": {"symbol": unit.upper(), "symbolPosition": "prefix"}
            if unit in MONEY and not self._is_chinese_money(unit)
            else {},
        }  # fmt: skip
        title = number.title[self.language]
        if self._is_chinese_money(unit):
            title = f"{title}（{number.chinese_unit}{SIGNS[unit]['zh']}）"
        return {
            "slice_name": title, "viz_type": params["viz_type"], "params": params,
            "dataset_uuid": _uuid("dataset", _key(question, self.language)), **_identity("chart", key),
        }  # fmt: skip

    def rows_of(self, mart: str) -> Asset:
        """The dataset of a mart whose rows are shown, with headings and values in this language."""
        model = _described(mart)
        columns = [
            _column(column["name"], column["data_type"].upper(), None, self.words.heading(column["name"]))
            for column in model["columns"]
        ]
        shown = []
        for name in (column["name"] for column in model["columns"]):
            text = self._named(f"mart.{name}", labels()["values"].get(name, {}))
            shown.append(f"{text} as {name}")
        return {
            "table_name": f"{mart} · {LANGUAGES[self.language]}", "schema": "marts",
            "sql": f"select {', '.join(shown)}\nfrom marts.{mart} as mart", "description": None, "columns": columns,
            "metrics": [], "main_dttm_col": None, **_dataset(f"{mart}_{self.language}", (mart,)),
        }  # fmt: skip

    def _rows(self, mart: str, key: str, kind: str, columns: list[str]) -> Asset:
        """The rows of one kind of data."""
        title = labels()["values"][KIND][kind][self.language]
        params = _table(columns) | {
            "server_page_length": 50, "include_search": True, "adhoc_filters": [_filter(KIND, "==", title)]
        }  # fmt: skip
        return {
            "slice_name": title[0].upper() + title[1:], "viz_type": "table", "params": params,
            "dataset_uuid": _uuid("dataset", f"{mart}_{self.language}"), **_identity("chart", key),
        }  # fmt: skip

    def _quotable_labels(self) -> dict[str, tuple[str, str]]:
        """Columns of the table of what may be quoted: type and heading."""
        text = self.words.text
        return {
            "number": ("BIGINT", text("question")), "title": ("TEXT", text("chart")),
            "state": ("TEXT", text("may_be_quoted")),
            "complete_to": ("DATE", text("complete_to")),
        }  # fmt: skip

    def _quotable(self, dashboard: Dashboard, key: str) -> Asset:
        """One row per question: whether its answer may be quoted, as its page says, and to when its figures are complete."""
        text, parts = self.words.text, []
        signs = {"carried": "✗", "nothing": "–", "behind": "△", "quotable": "✓"}
        words = {state: _text(f"{sign} {text(f'state_{state}')}") for state, sign in signs.items()}
        for question in dashboard.questions:
            wanted = (
                " and ".join(_condition(column, value) for column, value in (question.quotable or {}).items()) or "true"
            )
            title = joined((question.chart or {}).get("title", question.title)[self.language])
            names = ", ".join(map(_text, question.marts))
            parts.append(
                f"select {question.number} as number, {_text(title)} as title,\n"
                f"case when max(carried_from_release_no) is not null then {words['carried']}\n"
                f"when not exists (select from (\n{question.shown.strip()}\n) as answer where {wanted})\n"
                f"then {words['nothing']}\n"
                f"when bool_or(is_behind) then {words['behind']} else {words['quotable']} end as state,\n"
                "case when count(*) = count(mart_complete_date) then min(mart_complete_date) end as complete_to\n"
                f"from marts.dim_mart_coverage where is_figure and mart in ({names})"
            )
        columns = [_column(name, kind, None, label) for name, (kind, label) in self._quotable_labels().items()]
        return {
            "table_name": f"{text('may_be_quoted')} · {dashboard.title[self.language]}", "schema": "marts",
            "sql": "\nunion all\n".join(parts), "columns": columns, "metrics": [],
            **_dataset(f"{key}_quotable", (*dashboard.sources, "dim_mart_coverage")),
        }  # fmt: skip


class _Grid:
    """The rows of a dashboard. Heights are in units of 8 pixels, widths in twelfths."""

    def __init__(self) -> None:
        self.parts: dict[str, Any] = {}
        self.rows: list[list[str]] = []

    def chart(self, chart: Asset, height: int, width: int = COLUMNS) -> None:
        meta = {"uuid": chart["uuid"], "chartId": len(self.parts) + 1, "sliceName": chart["slice_name"]}
        self._put("CHART", meta, height, width)

    def text(self, text: str, height: int) -> None:
        self._put("MARKDOWN", {"code": text}, height, COLUMNS)

    def _put(self, kind: str, meta: Asset, height: int, width: int) -> None:
        name = f"{kind}-{len(self.parts):03}"
        self.parts[name] = {"type": kind, "id": name, "children": [], "meta": meta | {"width": width, "height": height}}
        used = sum(self.parts[part]["meta"]["width"] for part in self.rows[-1]) if self.rows else COLUMNS
        if used + width > COLUMNS:
            self.rows.append([])
        self.rows[-1].append(name)

    def position(self, title: str) -> Asset:
        """Superset's layout."""
        rows = {
            f"ROW-{place:03}": {
                "type": "ROW", "id": f"ROW-{place:03}", "children": parts, "parents": ["ROOT_ID", "GRID_ID"],
                "meta": {"background": "BACKGROUND_TRANSPARENT"},
            }
            for place, parts in enumerate(self.rows)
        }  # fmt: skip
        for name, row in rows.items():
            for part in row["children"]:
                self.parts[part]["parents"] = ["ROOT_ID", "GRID_ID", name]
        return {
            "DASHBOARD_VERSION_KEY": "v2",
            "ROOT_ID": {"type": "ROOT", "id": "ROOT_ID", "children": ["GRID_ID"]},
            "GRID_ID": {"type": "GRID", "id": "GRID_ID", "children": list(rows), "parents": ["ROOT_ID"]},
            "HEADER_ID": {"type": "HEADER", "id": "HEADER_ID", "meta": {"text": title}},
            **rows,
            **self.parts,
        }


def _table(columns: list[str]) -> Asset:
    """A table that writes each column by its unit: left alone, Superset shortens by K and M, and a share has no %."""
    written: dict[str, Asset] = {}
    for column in columns:
        unit = unit_of(column)
        if unit == "month":
            written[column] = {"d3TimeFormat": "%Y-%m"}
        elif unit != "date":
            written[column] = {"d3NumberFormat": ",.0f" if unit in MONEY else FORMATS.get(unit, "d")}
    return {
        **TABLE, "all_columns": columns, "column_config": written, "row_limit": 1000, "show_cell_bars": False,
        "table_timestamp_format": "%Y-%m-%d",
    }  # fmt: skip


def _described(mart: str) -> Asset:
    """A mart as the dbt project describes it."""
    return next(model for model in mart_models() if model["name"] == mart)


def _kinds(mart: str) -> dict[str, list[str]]:
    """The columns of a mart's rows by kind of data: names of the enterprise, what only this kind fills, dates, all others."""
    kind_of = {
        column["name"]: found["kind"] if (found := ONE_KIND.match(joined(column["description"]))) else None
        for column in _described(mart)["columns"]
    }
    names, dates = ["name_en", "name_zh", "brn"], ["consent_valid_to", "last_complete_date"]
    # The same in each row: the reader's own bank, and the kind that the title names.
    left_out = {*names, *dates, "bank_id", KIND}
    of_every_kind = [column for column, kind in kind_of.items() if kind is None and column not in left_out]
    return {
        kind: [*names, *(column for column, only in kind_of.items() if only == kind), *dates, *of_every_kind]
        for kind in dict.fromkeys(filter(None, kind_of.values()))
    }


# --- SQL --------------------------------------------------------------------------------------------------------------


def _selected(question: Question) -> list[str]:
    """The columns of a question's rows, in their order."""
    query = sqlglot.parse_one(question.shown, dialect="postgres")
    if not isinstance(query, exp.Query):
        raise ValueError(f"question {question.number}: its query selects nothing")
    return list(query.named_selects)


def _kind(column: str) -> str:
    unit = unit_of(column)
    return (
        "DATE" if unit in ("month", "date") else "TEXT" if unit in ("text", "yes_no", "year", "months") else "NUMERIC"
    )


def _condition(column: str, wanted: Any) -> str:
    values = wanted if isinstance(wanted, list) else [wanted]
    return f"answer.{column} in ({', '.join(_text(value) for value in values)})"


def _text(value: Any) -> str:
    """A literal."""
    return str(value).lower() if isinstance(value, bool) else "'" + str(value).replace("'", "''") + "'"


def _lines(joins: Mapping[str, str]) -> str:
    return "".join(f"{join}\n" for join in joins.values())


def _filter(column: str, operator: str, value: Any = None) -> Asset:
    return {
        "expressionType": "SIMPLE", "subject": column, "operator": operator, "comparator": value, "clause": "WHERE",
        "filterOptionName": f"filter_{column}",
    }  # fmt: skip


def _events() -> dict[str, dict[str, str]]:
    """Names of festivals, which have no dimension, from their seed."""
    return {code: dict(zip(LANGUAGES, names, strict=True)) for code, names in answers.event_names().items()}
