"""The question files: sound, complete in both languages, and the only source of docs/questions.md."""

from __future__ import annotations

import re

import pytest
from sampan.contracts.derive import mart_models
from sampan.marts import disclosure
from sampan.report import derived, questions
from sampan.report.charts import several
from sampan.report.dashboards import all_dashboards
from sampan.report.questions import Question, all_questions
from sampan.report.words import LANGUAGES, labels

from tests.unit.report.made_up import columns_of

QUESTIONS = all_questions()
BY_NUMBER = pytest.mark.parametrize("question", QUESTIONS, ids=[str(question.number) for question in QUESTIONS])
# Columns that say who an enterprise is, or what only one has.
IDENTIFYING = re.compile(r"(brn|sme_id|consent_id|store_id|merchant_no|policy_no|.*holder_name.*|name_en|name_zh)$")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
# Characters that only simplified Chinese has.
SIMPLIFIED = re.compile(
    "[与业东专个为书买产亲亿从仓价优会传储务动单卖厂发变员团国图场处备复够头实审导层带库应开异归当录总战户"
    "报担据择换损择数断旧时显术机权条来构标样检楼欢欧气没济满点热状现环电画监离种积税稳竞笔签类级约纪纯纲"
    "纳线组细终经结绍给络统继续维综绿编缩网罗联声职脑药荐获虑补规视览觉订认讨让训议记讲许论设访证评识诉词"
    "试话询该详语误说请诸课调谁谈谢财责货质贸费贷资赔赖赢趋运还这进远连选邮释钟钱铁银销锁错键长门间闻际陆"
    "险随难静页项须顾顿预领频题额风飞馆验鱼麦齐]"
)


@BY_NUMBER
def test_texts_are_in_both_languages(question: Question):
    for text in (question.title, question.know, question.answer, question.page_note, question.no_chart):
        if text is not None:
            assert text.keys() == LANGUAGES.keys()
            assert all(text.values())
            assert CHINESE.search(text["zh"])
            assert not CHINESE.search(text["en"])
            assert not SIMPLIFIED.search(text["zh"])


@BY_NUMBER
def test_every_column_of_the_page_has_a_label(question: Question):
    columns = columns_of(question.shown)
    assert len(columns) >= 3
    assert [column for column in columns if column not in labels()["columns"]] == []


@BY_NUMBER
def test_a_chart_draws_columns_of_the_page_or_has_a_reason_not_to(question: Question):
    chart = question.chart
    assert (chart is None) != (question.no_chart is None)
    if chart is None:
        return
    drawn = [*several(chart["category"]), *several(chart["value"]), *chart.get("where", {})]
    drawn += [chart[key] for key in ("series", "low", "high") if key in chart]
    assert set(drawn) <= set(columns_of(question.shown))
    assert chart["title"].keys() == LANGUAGES.keys()
    assert chart["kind"] in ("bar", "line", "interval")


@BY_NUMBER
def test_no_page_shows_an_enterprise(question: Question):
    """Also where the query of an analyst gives rows of enterprises: then the page has its own, and says so."""
    assert [column for column in columns_of(question.shown) if IDENTIFYING.match(column)] == []
    of_enterprises = any(map(IDENTIFYING.match, columns_of(question.query)))
    assert of_enterprises == (question.page is not None) == (question.page_note is not None)
    if of_enterprises:
        assert disclosure.class_of(question.mart) is disclosure.CLASSES["row_level"]


def test_numbers_are_those_of_the_files_and_no_label_is_left_over():
    assert [question.number for question in QUESTIONS] == list(range(1, 37))
    used = {column for question in QUESTIONS for column in (*columns_of(question.shown), *columns_of(question.query))}
    # Dashboards show the rows of some marts.
    rows = {mart for dashboard in all_dashboards() for mart in dashboard.marts}
    used |= {column["name"] for model in mart_models() if model["name"] in rows for column in model["columns"]}
    assert labels()["columns"].keys() - used == set()


@pytest.mark.parametrize("part", ["columns", "values", "texts"])
def test_labels_are_in_both_languages(part: str):
    entries = labels()[part].values()
    entries = [value for entry in entries for value in entry.values()] if part == "values" else entries
    assert len(entries) > 50
    for entry in entries:
        assert {"en", "zh"} <= entry.keys()
        assert not SIMPLIFIED.search(entry["zh"])


def test_docs_page_and_exposures_are_derived_from_the_files():
    assert derived.check() == [], "run `sampan contracts derive`"


def test_a_derived_file_that_differs_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path):
    stale, known = tmp_path / "questions.md", tmp_path / "known.yml"
    known.write_text("as it should be")
    monkeypatch.setattr(derived, "derived", lambda: {stale: "questions", known: "as it should be"})
    (problem,) = derived.check()
    assert str(stale) in str(problem)
    assert derived.write() == [stale]
    assert derived.check() == []


def test_a_file_with_an_unknown_key_is_refused(tmp_path):
    file = tmp_path / "01_x.yml"
    file.write_text("titel: {en: a, zh: b}\n")
    with pytest.raises(ValueError, match=r"01_x.yml: unknown keys titel"):
        questions._read(file)
