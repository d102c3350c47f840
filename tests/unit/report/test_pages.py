"""Pages from answers made up here: hostile values, empty answers, nulls, Chinese, and what changed."""

from __future__ import annotations

import csv
import json
import os
import re
from dataclasses import replace
from datetime import date
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import python_calamine
from sampan.report import changes, charts, make, pages
from sampan.report.answers import Answer, Coverage, State, Taken
from sampan.report.questions import all_questions
from sampan.report.words import LANGUAGES, Words, unit_of
from sampan.settings import settings

from tests.unit.report.made_up import COMPLETE, HOSTILE, answer, answers

QUESTION = all_questions()[1]
TRADE = (("customs_declarations", "Import and export declarations", date(2026, 7, 31)),)


class Seen(HTMLParser):
    """Tags and text of a page, as a browser reads it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def written(folder: Path, *made: Answer, before: dict[str, Any] | None = None) -> dict[str, str]:
    """Pages by name."""
    folder.mkdir()
    files = pages.write(folder, answers(*made), before)
    return {file.relative_to(folder).as_posix(): file.read_text("utf-8") for file in files if file.suffix == ".html"}


def page(folder: Path, made: Answer, language: str = "en", before: dict[str, Any] | None = None) -> Seen:
    return Seen(written(folder, made, before=before)[f"{language}/{made.question.name}.html"])


@pytest.fixture(scope="module")
def all_pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return written(tmp_path_factory.mktemp("pages") / "site")


@pytest.mark.xdist_group("pages")
def test_every_question_has_a_page_in_both_languages_whose_links_lead_somewhere(all_pages):
    assert len(all_pages) == 2 * (36 + 1) + 1
    links = 0
    for name, text in all_pages.items():
        for tag, attributes in Seen(text).tags:
            target = attributes.get("href") if tag == "a" else None
            if target and target.endswith(".html"):
                links += 1
                assert str((Path("/") / name).parent.joinpath(target).resolve())[1:] in all_pages
    assert links > 200


@pytest.mark.xdist_group("pages")
def test_a_page_asks_for_nothing_from_outside_and_runs_nothing(all_pages):
    for name, text in all_pages.items():
        tags = Seen(text).tags
        assert not [tag for tag, _ in tags if tag in ("script", "iframe", "object", "embed", "form")], name
        loaded = [
            value for _, attributes in tags for key, value in attributes.items() if key in ("src", "srcset", "href")
        ]
        assert not [value for value in loaded if re.match(r"(https?:)?//", value or "")], name
        assert not [key for _, attributes in tags for key in attributes if key.startswith("on")], name


@pytest.mark.xdist_group("pages")
def test_both_languages_have_the_same_figures(all_pages):
    values = {}
    for name, text in all_pages.items():
        language, _, rest = name.partition("/")
        values.setdefault(rest, {})[language] = [a["value"] for tag, a in Seen(text).tags if tag == "data"]
    compared = [found for found in values.values() if len(found) == 2 and found["en"]]
    assert len(compared) == 36
    assert all(found["en"] == found["zh-Hant"] for found in compared)


def test_hostile_values_are_text(tmp_path):
    made = answer(QUESTION, flow=HOSTILE, hs_chapter="=1+1", market_iso2_code="<b>x</b>")
    seen = page(tmp_path / "site", made)
    assert "script" not in [tag for tag, _ in seen.tags]
    assert HOSTILE in seen.words
    assert "<b>x</b>" in seen.words
    assert {"value": HOSTILE} in [attributes for _, attributes in seen.tags]


def test_pages_are_shut_to_other_users_whatever_the_program_leaves_open(tmp_path, monkeypatch):
    """Kind of fault: cells of few enterprises in files that any user reads, where Airflow is not the local stack's."""
    monkeypatch.setattr(make, "folder", lambda: tmp_path / "state" / "reports")
    monkeypatch.setattr(make.answers, "read", lambda number: answers(answer(QUESTION), release_no=number))
    monkeypatch.setattr(make.open_data, "write", lambda *_: [])
    monkeypatch.setattr(make, "_put", lambda *_: None)
    before = os.umask(0o022)
    try:
        made = make.run(7)
    finally:
        os.umask(before)
    assert made.files > 5
    assert (tmp_path / "state" / "reports").stat().st_mode & 0o777 == 0o700


def test_a_text_that_cannot_be_drawn_costs_no_page(tmp_path):
    """Kind of fault: ESC is invalid in XML, and what draws the charts ended the process, with all pages."""
    made = answer(QUESTION, flow="\x1b[31mred", market_iso2_code="\u202eback\x0b")
    seen = page(tmp_path / "site", made)
    assert r"\x1b[31mred" in seen.words
    chart = (tmp_path / "site" / "en" / "charts" / f"{QUESTION.name}.svg").read_text("utf-8")
    assert r"\x1b[31mred" in chart
    assert not {*chart} & {"\u202e", "\x1b", "\x0b"}


def test_downloads_start_no_formula_and_open_as_chinese(tmp_path):
    made = answer(
        QUESTION, flow="=HYPERLINK(1)", hs_chapter="＠SUM", market_iso2_code="深水埗", value_hkd=Decimal("-12.50")
    )
    written(tmp_path / "site", made)
    file = tmp_path / "site" / "zh-Hant" / "data" / f"{QUESTION.name}.csv"
    assert file.read_bytes().startswith(b"\xef\xbb\xbf")
    heads, *rows = csv.reader(file.open(encoding="utf-8-sig", newline=""))
    assert heads[0] == "貨流"
    assert [row[:4] for row in rows] == [["'=HYPERLINK(1)", "深水埗", "'＠SUM", "-12.50"]] * 4
    book = python_calamine.CalamineWorkbook.from_path(file.with_suffix(".xlsx"))
    sheet = book.get_sheet_by_name("答案").to_python()
    assert sheet[1][:4] == ["'=HYPERLINK(1)", "深水埗", "'＠SUM", -12.5]
    assert book.sheet_names == ["答案", "說明"]


def test_a_share_is_percent_on_the_page_and_in_the_workbook_and_of_one_for_machines(tmp_path):
    made = answer(all_questions()[4], late_share=Decimal("0.1234"))
    text = written(tmp_path / "site", made)[f"en/{made.question.name}.html"]
    assert '<data value="0.1234">12.3</data>' in text
    sheet = python_calamine.CalamineWorkbook.from_path(tmp_path / "site" / "en" / "data" / f"{made.question.name}.xlsx")
    assert sheet.get_sheet_by_index(0).to_python()[1][3] == 0.1234
    # 0.1234 below "(%)" reads as an eighth of a percent.
    for folder in ("en", "zh-Hant"):
        file = tmp_path / "site" / folder / "data" / f"{made.question.name}.csv"
        heads, first, *_ = csv.reader(file.open(encoding="utf-8-sig", newline=""))
        assert first[3] == "0.1234"
        assert not [head for head in heads if "%" in head]


@pytest.mark.parametrize("question", all_questions(), ids=[str(question.number) for question in all_questions()])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_sentence_bears_nulls_and_single_rows(question, language):
    """What a floor hides is said to be hidden; no template stumbles over a row that is not there."""
    words = Words(language, answers(answer(question)).names)
    for rows in (1, 3):
        made = answer(question, rows)
        hidden = [
            {column: None if isinstance(value, Decimal) and unit_of(column) not in ("year", "months") else value
             for column, value in row.items()}
            for row in made.rows
        ]  # fmt: skip
        for found in (made, replace(made, rows=tuple(hidden))):
            said = pages.sentence(found, words)
            assert len(said) > 8
            assert "None" not in said


def test_states_follow_from_rows_and_coverage():
    late = (("customs_declarations", "Declarations", date(2026, 7, 30)),)
    made = answer(QUESTION)
    assert made.state == State.QUOTABLE
    assert replace(made, coverage=replace(COMPLETE, behind=late)).state == State.BEHIND
    assert replace(made, coverage=replace(COMPLETE, carried_from=3)).state == State.CARRIED
    assert replace(made, rows=()).state == State.NOTHING
    assert replace(made, problem="column does not exist").state == State.FAILED
    outcomes = next(question for question in all_questions() if question.quotable)
    assert answer(outcomes, **dict.fromkeys(outcomes.quotable or (), "too_few")).state == State.NOTHING


def test_an_answer_that_may_not_be_quoted_says_so_in_words(tmp_path):
    seen = page(tmp_path / "a", replace(answer(QUESTION), coverage=replace(COMPLETE, carried_from=3)))
    assert "May not be quoted" in seen.words
    assert "figures of release 3" in seen.words
    seen = page(tmp_path / "b", replace(answer(QUESTION), rows=()), "zh-Hant")
    assert "暫無可引用" in seen.words
    assert "table" not in [tag for tag, _ in seen.tags]
    seen = page(tmp_path / "c", replace(answer(QUESTION), rows=(), problem="relation <x> does not exist"))
    assert "No answer" in seen.words
    assert "relation" not in seen.words


def test_figures_of_an_earlier_release_without_a_row_to_quote_stop_no_page(tmp_path):
    """Kind of fault: a state that hides another one. What is carried is marked as not quotable, so queries find nothing."""
    carried = [
        replace(answer(question), rows=(), coverage=replace(COMPLETE, carried_from=3)) for question in all_questions()
    ]
    found = written(tmp_path / "site", *carried)
    assert len(found) == 2 * (len(carried) + 1) + 1
    texts = [Seen(text).words for name, text in found.items() if name.startswith("en/") and name != "en/index.html"]
    assert all("There is no figure to quote" in text and "May not be quoted" in text for text in texts)


def test_coverage_says_what_is_late(tmp_path):
    covers = Coverage(date(2026, 7, 31), date(2026, 8, 14), TRADE, TRADE, None)
    seen = page(tmp_path / "site", replace(answer(QUESTION), coverage=covers))
    assert "May be quoted, data late" in seen.words
    assert "Import and export declarations · complete to 2026-07-31" in seen.words


def test_synthetic_data_is_labelled(tmp_path, monkeypatch):
    for said in ("yes", "no"):
        monkeypatch.setenv("SAMPAN_SYNTHETIC", said)
        settings.cache_clear()
        assert ("Synthetic data:" in page(tmp_path / said, answer(QUESTION)).words) == (said == "yes")
    settings.cache_clear()


def test_what_changed_is_counted_and_has_its_reasons(tmp_path):
    first = answer(QUESTION)
    written(tmp_path / "first", first)
    before = changes.kept(tmp_path / "first" / changes.KEPT)
    same = page(tmp_path / "same", first, before=before)
    assert "Nothing: every figure is as in release 7." in same.words
    rows = [dict(row) for row in first.rows]
    rows[0]["value_hkd"] = Decimal(5)
    rows[1]["flow"] = "import (other)"
    now = replace(first, rows=tuple(rows), taken=(Taken("customs_declarations", 3, 2, 1),))
    seen = page(tmp_path / "changed", now, before=before)
    assert "Against release 7, rows that are new: 1, with other figures: 1, gone: 1." in seen.words
    for reason in ("New data", "Corrections of earlier dates", "Withdrawn as wrong"):
        assert f"{reason}: Import and export declarations, batches: " in seen.words
    assert "Definition:" not in seen.words
    redefined = json.loads((tmp_path / "first" / changes.KEPT).read_text("utf-8"))
    redefined["questions"]["2"]["definition"] = "another"
    assert "Definition:" in page(tmp_path / "redefined", now, before=redefined).words


def test_a_row_that_shows_another_date_is_the_same_row(tmp_path):
    """Kind of fault: every text and date of a row counts as its name, so a feed that was loaded again is gone, and new."""
    made = answer(next(question for question in all_questions() if question.number == 23))
    of_feeds = tuple(row | {"feed": f"feed_{line}"} for line, row in enumerate(made.rows))
    written(tmp_path / "first", replace(made, rows=of_feeds))
    loaded = tuple(row | {"state": "missing", "last_loaded_date": date(2026, 12, 1)} for row in of_feeds)
    found = changes.change(replace(made, rows=loaded), changes.kept(tmp_path / "first" / changes.KEPT))
    assert found is not None
    assert (found.added, found.gone, found.changed) == (0, 0, len(of_feeds))


def test_no_row_of_an_answer_is_taken_for_another_one():
    """Kind of fault: a column that is empty in all rows, or a number, counts as part of a row's name."""
    made = answer(QUESTION, unknown_size_share_ytd=None)
    assert changes.key_columns(made) == ["flow", "market_iso2_code", "hs_chapter", "is_ytd_whole"]


def test_a_chart_draws_sums_of_what_the_table_shows():
    rows = answer(QUESTION).rows
    words = Words("en", {})
    found = charts.marks({"kind": "bar", "category": "market_iso2_code", "value": "value_hkd"}, rows, words)
    assert [(mark["category"], round(mark["value"], 2)) for mark in found] == [("CN", 12345.60)]
    drawn = charts.svg(QUESTION.chart, rows, words)
    assert drawn.startswith("<svg")


def test_a_chart_keeps_the_greatest_and_leaves_out_what_is_hidden():
    rows = [{"a": name, "b": value} for name, value in (("x", 1), ("y", None), ("z", 3), ("w", 2))]
    found = charts.marks({"kind": "bar", "category": "a", "value": "b", "top": 2}, rows, Words("en", {}))
    assert [mark["category"] for mark in found] == ["z", "w"]
    assert charts.svg({"kind": "bar", "category": "a", "value": "b"}, rows[1:2], Words("en", {})) is None
    zeros = [row | {"b": 0} for row in rows]
    assert charts.svg({"kind": "bar", "category": "a", "value": "b"}, zeros, Words("en", {})) is None
    assert charts.svg({"kind": "line", "category": "a", "value": "b"}, zeros, Words("en", {})) is not None


def test_the_unit_of_a_heading_stays_on_one_line():
    """A heading in Chinese broke within its unit: （港 at the end of a line, 元） on the next."""
    assert pages.with_unit("年初至今出口（港元）") == '年初至今出口<span class="unit">（港元）</span>'
    assert pages.with_unit("Exports (HK$)") == 'Exports <span class="unit">(HK$)</span>'
    assert pages.with_unit("市場") == "市場"
    assert pages.with_unit("<b>(x)") == '&lt;b&gt;<span class="unit">(x)</span>'
