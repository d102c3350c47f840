"""Superset's assets: complete, the same each time, and each dashboard for those who may read all of it."""

from __future__ import annotations

import json
import re
from io import BytesIO
from typing import Any
from zipfile import ZipFile

import pytest
import sqlglot
from sampan.contracts.derive import mart_models
from sampan.marts import disclosure
from sampan.report import dashboards, superset
from sampan.report.charts import COLOURS, several
from sampan.report.dashboards import ANALYST, BANK, POLICY, all_dashboards, readers
from sampan.report.questions import all_questions
from sampan.report.words import LANGUAGES, unit_of
from sampan.settings import HOME
from sampan.warehouse.roles import POLICY_READER

from infra.local.superset import traditional
from tests.unit.report.made_up import columns_of
from tests.unit.report.test_questions import SIMPLIFIED

Assets = dict[str, dict[str, Any]]
# What may not be added over rows: rates, sums of a year to date, medians, distinct people, days.
NOT_ADDED = re.compile(
    r"ytd|median|visitor|headroom|exporter_count|declarant_count|(share|ratio|rate|pct|hhi|days|limit_hkd)$"
)


@pytest.fixture(scope="module")
def assets() -> Assets:
    return superset.assets()


def of(assets: Assets, kind: str) -> Assets:
    return {
        name.removeprefix(f"{kind}/").removesuffix(".yaml"): asset
        for name, asset in assets.items()
        if name.startswith(kind)
    }


def test_the_bundle_is_the_same_bytes_each_time_and_has_what_superset_asks_for(assets: Assets):
    first = superset.bundle()
    assert first == superset.bundle()
    with ZipFile(BytesIO(first)) as archive:
        assert {name.removeprefix("sampan/") for name in archive.namelist()} == assets.keys()
        assert json.loads(archive.read("sampan/metadata.yaml"))["type"] == "assets"
    ids = [asset["uuid"] for asset in assets.values() if "uuid" in asset]
    assert len(ids) == len(set(ids)) == len(assets) - 1


def test_every_mart_and_question_has_a_dataset_with_its_columns(assets: Assets):
    datasets = of(assets, "datasets")
    for model in mart_models():
        found = {column["column_name"] for column in datasets[model["name"]]["columns"]}
        assert {column["name"] for column in model["columns"]} <= found
    for question in all_questions():
        for language in LANGUAGES:
            dataset = datasets[f"question_{question.number:02}_{language}"]
            columns = [column["column_name"] for column in dataset["columns"]]
            assert columns[: len(columns_of(question.shown))] == list(columns_of(question.shown))
            assert question.shown.strip() in dataset["sql"]
    for name, dataset in datasets.items():
        if dataset["sql"]:
            selected = sqlglot.parse_one(dataset["sql"], dialect="postgres").named_selects
            known = {column["column_name"] for column in dataset["columns"]}
            assert "*" in selected or known <= set(selected), name


def test_a_dashboard_of_all_readers_rests_on_no_rows_of_enterprises():
    found = {dashboard.key: dashboard for dashboard in all_dashboards()}
    subjects = {"overview", "trade", "funding", "festival", "insurance", "marks", "interchange", "quality"}
    assert subjects <= found.keys()
    for key, dashboard in found.items():
        classes = [disclosure.class_of(mart) for mart in dashboard.sources]
        may = [POLICY_READER in found_class.readers for found_class in classes]
        if key in subjects:
            assert all(may), key
        elif key != "bank":
            assert not all(may), key
            assert all(readers(question.marts) == (ANALYST,) for question in dashboard.questions)
    assert readers(("mart_credit_features",)) == readers(found["bank"].sources) == (BANK,)
    assert readers(("mart_exports_monthly",)) == (POLICY, ANALYST)
    assert readers(("mart_exports_monthly", "dim_sme")) == (ANALYST,)


def test_whoever_may_read_one_chart_of_a_dashboard_may_read_all_of_them(assets: Assets):
    datasets = {asset["uuid"]: asset for asset in of(assets, "datasets").values()}
    charts = {asset["uuid"]: asset for asset in of(assets, "charts").values()}
    shown: set[str] = set()
    for name, dashboard in of(assets, "dashboards").items():
        parts = [part for part in dashboard["position"].values() if isinstance(part, dict) and part["type"] == "CHART"]
        found = {tuple(datasets[charts[part["meta"]["uuid"]]["dataset_uuid"]]["extra"]["readers"]) for part in parts}
        assert len(found) == 1, name
        shown |= {part["meta"]["uuid"] for part in parts}
        for row in dashboard["position"].values():
            if isinstance(row, dict) and row["type"] == "ROW":
                assert sum(dashboard["position"][part]["meta"]["width"] for part in row["children"]) <= superset.COLUMNS
    assert shown == charts.keys()


def test_a_yes_says_what_of_in_a_legend_and_stands_alone_in_a_table(assets: Assets):
    datasets = of(assets, "datasets")
    assert "'Known to be new to export: yes'" in datasets["question_04_en"]["sql"]
    assert "'確知為新出口商：否'" in datasets["question_04_zh"]["sql"]
    assert not [name for name, dataset in datasets.items() if "quotable: yes" in (dataset["sql"] or "")]


def test_a_chart_sums_what_adds_up_and_shows_the_rest_as_it_is(assets: Assets):
    charts = of(assets, "charts")
    late, exports = charts["question_05_en"]["params"], charts["question_02_en"]["params"]
    assert [metric["aggregate"] for metric in late["metrics"]] == ["MAX"]
    assert [metric["aggregate"] for metric in exports["metrics"]] == ["SUM"]
    assert exports["adhoc_filters"][0]["comparator"] == 12
    for question in all_questions():
        for language in LANGUAGES:
            chart = charts[f"question_{question.number:02}_{language}"]
            assert chart["slice_name"].startswith(f"{question.number}. ")
            if question.chart:
                drawn = [metric["column"]["column_name"] for metric in chart["params"]["metrics"]]
                assert set(several(question.chart["value"])) <= set(drawn)


def test_money_is_counted_as_each_language_counts(assets: Assets):
    """Superset shortens by K, M and B: Chinese has 萬 and 億, so there the figures are in those, and the title says so."""
    charts = of(assets, "charts")
    assert charts["question_02_en"]["slice_name"].endswith("(HK$)")
    assert charts["question_02_zh"]["slice_name"].endswith("（萬港元）")
    counted = 0
    for name, chart in charts.items():
        metrics = chart["params"].get("metrics") or [chart["params"].get("metric")]
        for metric in filter(None, metrics):
            if unit_of(metric["column"]["column_name"]) not in superset.MONEY:
                continue
            is_chinese = name.endswith("_zh") or "_zh_" in name
            counted += is_chinese
            divided = re.search(r" / (\d+)\.0$", metric.get("sqlExpression", ""))
            assert (divided is not None) == is_chinese, name
            assert (chart["params"]["y_axis_format"] == "SMART_NUMBER") != is_chinese, name
            if divided:
                unit = {"10000": "萬", "100000000": "億"}[divided[1]]
                assert unit in metric["label"], name
                assert unit in chart["slice_name"], name
    assert counted > 10


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_bank_sees_a_table_for_each_kind_of_data_with_the_columns_of_that_kind_in_words(
    language: str, assets: Assets
):
    """One table of all had 37 columns, two thirds of them empty in each row, and codes where English was asked for."""
    (model,) = (model for model in mart_models() if model["name"] == "mart_credit_features")
    dataset = of(assets, "datasets")[f"mart_credit_features_{language}"]
    charts = {name: chart for name, chart in of(assets, "charts").items() if chart["dataset_uuid"] == dataset["uuid"]}
    assert len(charts) == 4
    assert list(columns_of(dataset["sql"])) == [column["name"] for column in model["columns"]]
    assert of(assets, "datasets")["mart_credit_features"]["extra"] == dataset["extra"]
    kinds, shown = superset.labels()["values"]["consent_scope"], set()
    for name, chart in charts.items():
        kind = name.removeprefix(f"bank_{language}_mart_credit_features_")
        (only,) = chart["params"]["adhoc_filters"]
        assert only["comparator"] == kinds[kind][language]
        assert chart["slice_name"] == only["comparator"][0].upper() + only["comparator"][1:]
        assert f"'{only['comparator']}'" in dataset["sql"]
        described = {column["name"]: column["description"] for column in model["columns"]}
        scopes = {
            described[column].split(".")[0]
            for column in chart["params"]["all_columns"]
            if described[column].startswith("Scope ")
        }
        assert scopes == {f"Scope {kind}"}
        shown |= {*chart["params"]["all_columns"]}
    # What each row is of: the reader's own bank, and the kind that the title names.
    assert described.keys() - shown == {"bank_id", "consent_scope"}
    headings = {column["column_name"]: column["verbose_name"] for column in dataset["columns"]}
    chinese = {name for name, heading in headings.items() if re.search("[\u4e00-\u9fff]", heading)}
    assert chinese == (headings.keys() if language == "zh" else set())
    model_of = HOME / "dbt_project" / "models" / "marts" / "consent" / "mart_credit_features.sql"
    (note,) = re.findall(r"'([^']+)' .* as coverage_note", model_of.read_text(encoding="utf-8"))
    assert superset.labels()["values"]["coverage_note"].keys() == {note}


def test_a_table_writes_a_figure_by_its_unit(assets: Assets):
    """Left alone, Superset writes a share of 0.451 below a heading in %, and 1.23M where Chinese counts by 萬."""
    datasets = {asset["uuid"]: asset for asset in of(assets, "datasets").values()}
    wanted = {"hkd": ",.0f", "cny": ",.0f", "share": ".1%", "count": ",d", "ratio": ",.3f"}
    seen = set()
    for name, chart in of(assets, "charts").items():
        if chart["viz_type"] != "table":
            continue
        kinds = {column["column_name"]: column["type"] for column in datasets[chart["dataset_uuid"]]["columns"]}
        for column in chart["params"]["all_columns"]:
            unit, form = unit_of(column), chart["params"]["column_config"].get(column, {})
            if kinds[column].startswith(("NUMERIC", "BIGINT", "INTEGER")):
                assert form["d3NumberFormat"] == wanted.get(unit, "d"), (name, column)
                seen.add(unit)
            elif unit == "month":
                assert form["d3TimeFormat"] == "%Y-%m", (name, column)
    assert seen >= {"hkd", "share", "count", "ratio"}


def test_an_interval_stands_in_the_order_of_the_answer(assets: Assets):
    """By name, it stood in another order in each language, and in none of them as on the page."""
    datasets = {asset["uuid"]: asset for asset in of(assets, "datasets").values()}
    found = [asset for asset in of(assets, "charts").values() if asset["viz_type"] == "echarts_timeseries_scatter"]
    assert len(found) >= 10
    for chart in found:
        params = chart["params"]
        assert params["groupby"] == []
        assert params["x_axis_sort"] == params["timeseries_limit_metric"]["label"]
        assert params["timeseries_limit_metric"]["column"]["column_name"] == "chart_place"
        columns = {column["column_name"] for column in datasets[chart["dataset_uuid"]]["columns"]}
        assert "chart_place" in columns
        # A label that is a column's name became a series of the chart.
        assert params["x_axis_sort"] not in columns
        assert [one["operator"] for one in params["adhoc_filters"]][-1] == "IS NOT NULL"


def test_below_each_chart_stands_why_it_may_be_empty(assets: Assets):
    """Superset says of an empty chart that the query returned nothing; an officer asks why."""
    why = {"en": "too few enterprises are behind the figures", "zh": "數字所涉企業太少"}
    for question in all_questions():
        for name, dashboard in of(assets, "dashboards").items():
            texts = [
                part["meta"].get("code", "")
                for part in dashboard["position"].values()
                if isinstance(part, dict) and "meta" in part
            ]
            for text in texts:
                if question.chart and text.startswith(f"**{question.number}. "):
                    assert why[name[-2:]] in text, (name, question.number)


def test_superset_s_own_chinese_becomes_traditional_and_says_what_the_english_says():
    texts = {
        "": {"lang": "zh_TW"},
        "Delete": ["删除"],
        "There is currently no information to display.": ["要顯示的可視化類型"],
        "%s row": ["%s 列", "%s 列"],
    }
    pack = {"domain": "superset", "locale_data": {"superset": texts}}
    assert traditional(pack) == {
        "domain": "superset",
        "locale_data": {
            "superset": {
                "": {"lang": "zh_TW"},
                "Delete": ["刪除"],
                "There is currently no information to display.": ["暫時沒有資料可顯示。"],
                "%s row": ["%s 列", "%s 列"],
            }
        },
    }


def test_charts_have_the_colours_of_the_pages(assets: Assets):
    """An officer who lays a dashboard beside the page of the same question looks for the same colours."""
    text = (HOME / "infra" / "bi" / "superset_config.py").read_text(encoding="utf-8")
    assert json.dumps(COLOURS) in text
    assert f'"id": "{superset.COLOUR_SCHEME}"' in text
    drawn = [asset["params"] for asset in of(assets, "charts").values() if asset["viz_type"].startswith("echarts")]
    assert len(drawn) > 60
    assert {params["color_scheme"] for params in drawn} == {superset.COLOUR_SCHEME}
    metadata = [asset["metadata"] for asset in of(assets, "dashboards").values()]
    assert {found["color_scheme"] for found in metadata} == {superset.COLOUR_SCHEME}


def test_a_table_shows_html_in_a_cell_as_text(assets: Assets):
    """A partner's name `<a href=...>` became a link, `<img src=/logout>` a request: Superset reads HTML unless told."""
    tables = [asset["params"] for asset in of(assets, "charts").values() if asset["viz_type"] == "table"]
    assert len(tables) > 10
    assert {params.get("allow_render_html") for params in tables} == {False}


def test_metrics_are_of_what_may_be_added_and_of_nothing_else(assets: Assets):
    counted = 0
    for model in mart_models():
        sums = model["config"]["meta"].get("sums", [])
        kinds = {column["name"]: column["data_type"] for column in model["columns"]}
        assert all(kinds[column].startswith(("numeric", "bigint", "integer")) for column in sums), model["name"]
        assert not [column for column in sums if NOT_ADDED.search(column)], model["name"]
        metrics = of(assets, "datasets")[model["name"]]["metrics"]
        assert [metric["expression"] for metric in metrics] == [f"SUM({column})" for column in sums]
        counted += len(sums)
    assert counted > 80
    # Counts of enterprises add up over industries and never over months; rows of the pipeline overlap.
    assert of(assets, "datasets")["mart_funding_pipeline"]["metrics"] == []


def test_chinese_is_traditional(assets: Assets):
    texts = [asset for name, asset in assets.items() if name.endswith("_zh.yaml")]
    assert len(texts) > 80
    assert not SIMPLIFIED.search(json.dumps(texts, ensure_ascii=False))


def test_a_question_on_no_dashboard_or_on_two_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path):
    text = dashboards.FILE.read_text(encoding="utf-8")
    for wrong in (text.replace("questions: [23, 34]", "questions: [23]"), text.replace("[23, 34]", "[23, 34, 1]")):
        (tmp_path / "dashboards.yml").write_text(wrong, encoding="utf-8")
        monkeypatch.setattr(dashboards, "FILE", tmp_path / "dashboards.yml")
        with pytest.raises(ValueError, match="each question is on one dashboard of a subject"):
            all_dashboards.__wrapped__()
