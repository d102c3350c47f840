"""The pages of the simulated world say what SQL says, and no more than their readers may know."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from contextlib import ExitStack, suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sampan.errors import PermanentFailure
from sampan.marts import disclosure
from sampan.report import answers, changes, charts, make, open_data, questions
from sampan.report.questions import Question, all_questions
from sampan.report.words import LANGUAGES, Words, labels, raw
from sampan.settings import settings

from infra.local.s3 import EmbeddedS3, client
from tests.integration.report.conftest import Site
from tests.integration.world import Simulated

QUESTIONS = all_questions()
BY_NUMBER = pytest.mark.parametrize("question", QUESTIONS, ids=[str(question.number) for question in QUESTIONS])
pytestmark = pytest.mark.xdist_group("world")


class Figures(HTMLParser):
    """The cells of a page's table as SQL gave them, row by row; an empty one is ''."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")
        elif tag == "data":
            self.rows[-1][-1] = dict(attrs)["value"] or ""


@BY_NUMBER
@pytest.mark.parametrize("folder", ["en", "zh-Hant"])
def test_the_figures_of_a_page_are_those_of_its_query(question: Question, folder: str, site: Site, world: Simulated):
    rows = [[raw(value) for value in row] for row in world.read(question.shown)]
    assert rows, "an empty answer proves nothing"
    shown = Figures((site.folder / folder / f"{question.name}.html").read_text("utf-8")).rows[1:]
    assert shown == rows[:100]
    with (site.folder / folder / "data" / f"{question.name}.csv").open(encoding="utf-8-sig", newline="") as file:
        _, *downloaded = csv.reader(file)
    numbers = [[re.fullmatch(r"-?[0-9.]+", cell) is not None for cell in row] for row in rows]
    same = [
        (cell, other)
        for row, line, is_number in zip(rows, downloaded, numbers, strict=True)
        for cell, other, wanted in zip(row, line, is_number, strict=True)
        if wanted and re.fullmatch(r"-?[0-9.]+", other)
    ]
    assert same
    assert all(cell == other for cell, other in same)


def test_answers_of_the_world_may_be_quoted_but_those_that_a_floor_hides(site: Site):
    """Funding and marks have too few enterprises in a world of 750 for an effect that may be told."""
    states = {answer.question.number: answer.state for answer in site.found.answers}
    assert [answer.problem for answer in site.found.answers if answer.problem] == []
    assert {number for number, state in states.items() if state == "nothing"} <= {9, 32, 33}
    assert set(states.values()) <= {"quotable", "behind", "nothing"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_value_on_a_page_has_a_name(language: str, site: Site):
    """Codes with names in dimensions, and words of marts with a label: nothing is shown as `re_export` or `85`."""
    words, nameless = Words(language, site.found.names), set()
    # Numbers of banks are meant as they are, and a regime has its English name in a column.
    for answer in site.found.answers:
        for row in answer.rows:
            for column, value in row.items():
                if isinstance(value, str) and column != "bank_id":
                    codes = labels()["columns"][column].get("codes", column)
                    codes = codes if isinstance(codes, str) else codes["by"].get(row[codes["column"]], column)
                    known = {*labels()["values"].get(column, {}), *labels()["values"].get(codes, {})}
                    if value not in known | site.found.names.get(codes, {}).keys():
                        nameless.add((column, value))
                    assert words.value(column, value, row)
    assert nameless == set()


@BY_NUMBER
def test_a_chart_adds_up_only_what_may_be_added(question: Question, site: Site):
    """A rate, a mean or an effect stands alone: no two rows of the table fall on one point."""
    chart = question.chart
    if chart is None or (charts.stacks(chart) and chart["kind"] == "bar"):
        return
    answer = next(answer for answer in site.found.answers if answer.question is question)
    words = Words("en", site.found.names)
    drawn = [row for row in answer.rows if charts._is_wanted(row, chart.get("where", {}))]
    values = charts.several(chart["value"])
    shown = sum(row[value] is not None for row in drawn for value in values)
    assert len(charts.marks({**chart, "top": 10**6}, drawn, words)) == shown


def test_sentences_are_said_from_the_world(site: Site):
    """Worked by hand from the rows that SQL gives: sums of columns, and the greatest of them."""
    exports = next(answer for answer in site.found.answers if answer.question.number == 2)
    total = sum(row["value_ytd_hkd"] for row in exports.rows)
    said = (site.folder / "en" / "index.html").read_text("utf-8")
    assert f"Since January it was HK${total / 10**6:,.3g} million" in said or f"HK${total / 10**9:,.3g} billion" in said


@BY_NUMBER
def test_figures_are_read_with_the_least_right_that_suffices(question: Question, world: Simulated):
    """`policy_reader` reads a page unless one of its marts has rows of enterprises."""
    role = answers._reader(question.marts)
    rows_of_enterprises = any(disclosure.class_of(mart) is disclosure.CLASSES["row_level"] for mart in question.marts)
    assert role == ("bi_reader" if rows_of_enterprises else "policy_reader")
    with world.installed(), answers.reading() as session:
        session.execute(f"set local role {role}")
        assert session.execute(question.shown).fetchall()
        with pytest.raises(psycopg.errors.InsufficientPrivilege), session.transaction():
            session.execute("select from ops.batch")
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)):
            session.execute("create table marts.mine ()")


def test_no_reader_stops_a_report(world: Simulated):
    """People share the login `bi_reader`: one of them sets what ends its sessions, or takes all of them."""
    with world.installed(), ExitStack() as sessions:
        taken = sessions.enter_context(psycopg.connect(settings().dsn("bi"), autocommit=True))
        taken.execute("alter role bi_reader set transaction_timeout to '1ms'")
        try:
            with suppress(psycopg.OperationalError):
                for _ in range(200):
                    sessions.enter_context(psycopg.connect(settings().dsn("bi")))
            with answers.reading() as reader:
                assert reader.execute("select current_user").fetchall() == [("bi_reader",)]
                assert reader.execute("select count(*) from marts.dim_mart_coverage").fetchall() != [(0,)]
        finally:
            taken.execute("alter role bi_reader reset transaction_timeout")


def test_no_page_or_download_names_an_enterprise(site: Site, world: Simulated):
    known = {value for row in world.read("select brn, name_en, name_zh from marts.dim_sme") for value in row if value}
    assert len(known) > 1000
    texts = [
        path.read_text("utf-8") for path in site.folder.rglob("*") if path.suffix in (".html", ".csv", ".json", ".svg")
    ]
    assert len(texts) > 200
    # A number of 8 digits may be an amount: registration numbers stand alone.
    found = set(re.findall(r"\b[0-9]{8}\b", "\n".join(texts))) & known
    found |= {name for name in known if not name.isdigit() and any(name in text for text in texts)}
    assert found == set()


@pytest.fixture
def store(world: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The world with an object store and a state folder of its own, as the installation."""
    with EmbeddedS3(tmp_path / "s3") as s3:
        for name, value in world.environment.items():
            monkeypatch.setenv(name, value)
        values = {
            "SAMPAN_STATE": str(tmp_path / "state"), "SAMPAN_S3_ENDPOINT": s3.endpoint,
            "AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        }  # fmt: skip
        for name, value in (values | s3.settings).items():
            monkeypatch.setenv(name, value)
        settings.cache_clear()
        yield s3
    settings.cache_clear()


def test_pages_are_kept_locally_and_in_the_store_once(store: EmbeddedS3, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(answers, "all_questions", lambda: QUESTIONS[:2])
    made = make.run()
    folder = make.folder() / f"release_{made.release_no}"
    assert made.path == folder / "en" / "index.html"
    local = {path.relative_to(make.folder()).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert made.files == len(local) > 10
    pages = store.client().get_paginator("list_objects_v2").paginate(Bucket="reports")
    kept = {item["Key"] for page in pages for item in page["Contents"]}
    assert kept == local | {"index.html"}
    head = store.client().head_object(Bucket="reports", Key=f"release_{made.release_no}/zh-Hant/index.html")
    assert head["ContentType"] == "text/html; charset=utf-8"
    assert make.run().files == 0
    assert make.run(again=True).files == made.files
    assert [path.name for path in make.folder().iterdir() if path.name.startswith(".")] == []


def test_published_tables_are_files_with_the_rows_of_the_release(world: Simulated, tmp_path: Path):
    with world.installed():
        files = {file.name for file in open_data.write(tmp_path, answers.read(answers.live() or 0))}
    assert {f"{name}.csv" for name in open_data.published()} == {name for name in files if name.endswith(".csv")}
    listed = json.loads((tmp_path / "data" / open_data.CATALOGUE).read_text("utf-8"))
    assert [entry["dct:identifier"] for entry in listed["dcat:dataset"]] == open_data.published()
    for entry in listed["dcat:dataset"]:
        (part,) = entry["dcat:distribution"]
        file = tmp_path / "data" / part["dcat:downloadURL"]["@id"]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == part["spdx:checksum"]["spdx:checksumValue"]
        assert (tmp_path / "data" / entry["dct:conformsTo"]["@id"]).resolve().exists()
        with file.open(encoding="utf-8", newline="") as lines:
            count = sum(1 for _ in csv.DictReader(lines))
        assert world.read(f"select count(*) from marts.{entry['dct:identifier']}") == [(count,)]
    hidden = world.read(
        "select count(*) from marts.mart_published_exports where is_suppressed and export_value_hkd is null"
    )
    with (tmp_path / "data" / "mart_published_exports.csv").open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["is_suppressed"] == "true"]
    assert len(rows) == hidden[0][0] > 0
    assert {row["export_value_hkd"] for row in rows} == {""}


def test_only_the_reporter_writes_pages(store: EmbeddedS3):
    keys = json.loads(store.partner_keys.read_text())
    reporter, loader = (
        client(store.endpoint, *pair) for pair in (keys["reporter"], (store.access_key, store.secret_key))
    )
    reporter.put_object(Bucket="reports", Key="release_1/index.html", Body=b"x")
    for who, bucket in ((loader, "reports"), (reporter, "landing"), (reporter, "drop")):
        with pytest.raises(Exception, match="AccessDenied"):
            who.put_object(Bucket=bucket, Key="x", Body=b"x")


def test_a_query_that_fails_leaves_the_release_and_the_other_pages(store: EmbeddedS3, monkeypatch: pytest.MonkeyPatch):
    live = answers.live()
    broken = questions.Question(**{**vars(QUESTIONS[4]), "query": "select nothing_of_it from marts.mart_mirror_gap"})
    monkeypatch.setattr(answers, "all_questions", lambda: (*QUESTIONS[:2], broken))
    with pytest.raises(PermanentFailure, match=r"question 5: column .nothing_of_it. does not exist"):
        make.run()
    folder = make.folder() / f"release_{live}" / "en"
    assert "This release has no answer to this question." in (folder / f"{broken.name}.html").read_text("utf-8")
    assert Figures((folder / f"{QUESTIONS[1].name}.html").read_text("utf-8")).rows
    assert answers.live() == live
    assert changes.kept(folder.parent / changes.KEPT)["questions"].keys() == {"1", "2"}
    with pytest.raises(PermanentFailure, match="no release 999"):
        make.run(999)
