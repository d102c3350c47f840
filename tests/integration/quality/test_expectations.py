"""The wrapper of Great Expectations on real tables: verdicts and counts come back, values of rows never do."""

from __future__ import annotations

import logging
import time
from datetime import date
from pathlib import Path

import psycopg
import pytest
from sampan.contracts.model import Rule
from sampan.errors import PermanentFailure, TransientFailure
from sampan.quality import data_docs, expectations
from sampan.settings import settings

SECRET = "A123456(3)"
RULES = (
    Rule("rows", "A band.", "critical", None, "expect_table_row_count_to_be_between", {"min_value": 10}),
    Rule("known", "Codes.", "error", None, "expect_column_values_to_be_in_set", {"column": "code", "value_set": ["a"]}),
    Rule(
        "contains", "Has b.", "warning", None, "expect_column_distinct_values_to_contain_set",
        {"column": "code", "value_set": ["b"]},
    ),
    Rule(
        "recent", "Dates.", "critical", None, "expect_column_max_to_be_between",
        {"column": "day", "max_value": "{business_date}"},
    ),
    Rule("row rule", "Not for it.", "error", predicate="true"),
)  # fmt: skip


def a_build(number: int) -> None:
    with psycopg.connect(settings().dsn("loader")) as connection:
        connection.execute(
            "insert into ops.build (build_no, as_of_date, state) overriding system value"
            " values (%s, '2026-07-06', 'released')",
            [number],
        )


@pytest.fixture
def table(sampan) -> str:
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as connection:
        connection.execute("create table intake.sample (code text, day date, amount numeric)")
        connection.execute("insert into intake.sample values ('a', '2026-07-05', 1), (%s, '2026-07-06', 2)", [SECRET])
    return "sample"


def _validate(
    table: str, rules: tuple[Rule, ...] = RULES, day: date = date(2026, 7, 6)
) -> list[expectations.CheckResult]:
    return expectations.validate("suite", rules, "intake", table, settings().dsn("loader"), {"business_date": day})


def test_every_rule_with_an_expectation_has_its_verdict_in_order(table):
    found = _validate(table)
    assert [(item.rule, item.success, item.critical, item.column, item.observed) for item in found] == [
        ("rows", False, True, None, {"value": 2.0}),
        ("known", False, False, "code", None),
        ("contains", False, False, "code", None),
        ("recent", True, False, "day", None),
    ]
    assert found[3].kwargs["max_value"] == "2026-07-06"
    assert [item.success for item in _validate(table, day=date(2026, 7, 5))] == [False, False, False, False]
    assert _validate(table, RULES[4:]) == []


def test_bounds_of_the_number_of_rows_have_the_same_verdict_when_it_is_known(table):
    """Where it is, neither the library nor the database is asked: here no server is at the address."""
    away = "host=127.0.0.1 port=1 dbname=none"
    kind = "expect_table_row_count_to_be_between"
    for bounds in ({"min_value": 2}, {"min_value": 3}, {"max_value": 1}, {"min_value": 1, "max_value": 2}):
        rule = Rule("rows", "A band.", "critical", None, kind, bounds)
        (asked,) = _validate(table, (rule,))
        (known,) = expectations.validate("suite", (rule,), "intake", table, away, rows=2)
        assert known == asked


def test_no_value_of_a_row_is_returned_stored_shown_or_logged(sampan, table, tmp_path: Path, caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        found = _validate(table)
        a_build(1)
        with psycopg.connect(settings().dsn("loader")) as connection:
            expectations.store(connection, "suite", found, build_no=1)
        index = data_docs.write(tmp_path / "docs")
    pages = [path.read_text() for path in index.parent.rglob("*.html")]
    assert len(pages) >= 2
    assert any("Has b." in page for page in pages)
    texts = [repr(found), repr(sampan.rows("select * from ops.gate_result")), caplog.text, *capfd.readouterr(), *pages]
    assert not [text[:80] for text in texts if SECRET in text or "A123456" in text]


def test_results_of_a_check_done_again_take_the_place_of_the_first(sampan, table):
    found = _validate(table)
    a_build(1)
    for outcomes in (found, found[:2]):
        with psycopg.connect(settings().dsn("loader")) as connection:
            expectations.store(connection, "suite", outcomes, build_no=1)
    assert sampan.rows("select rule, severity, success from ops.gate_result order by 1") == [
        ("known", "error", False),
        ("rows", "critical", False),
    ]


def test_data_docs_keep_the_newest_checks_of_each_suite(sampan, table, tmp_path: Path):
    found = _validate(table)
    for number in range(1, 8):
        a_build(number)
        with psycopg.connect(settings().dsn("loader")) as connection:
            expectations.store(connection, "suite", found, build_no=number)
    for _ in range(2):
        index = data_docs.write(tmp_path / "docs", keep=3)
    assert len(list((tmp_path / "docs" / "validations").rglob("*.html"))) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["docs"]
    assert "build-7" in index.read_text()


def test_data_docs_leave_a_folder_alone_when_something_else_is_in_it(sampan, tmp_path: Path):
    kept = tmp_path / "thesis" / "chapter.txt"
    beside = tmp_path / "thesis.old"
    kept.parent.mkdir()
    beside.mkdir()
    kept.write_text("years of work")
    for place in (kept.parent, kept, kept / "below"):
        with pytest.raises(PermanentFailure, match=r"data_docs\.folder"):
            data_docs.write(place)
    kept.unlink()
    data_docs.write(kept.parent)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis", "thesis.old"]


def test_data_docs_leave_the_pages_as_they_are_when_the_database_is_away(sampan, tmp_path: Path, monkeypatch):
    data_docs.write(tmp_path / "docs")
    monkeypatch.setenv("SAMPAN_WAREHOUSE_DSN", "postgresql://unknown_role@127.0.0.1:9/nothing")
    settings.cache_clear()
    with pytest.raises(TransientFailure, match="make status"):
        data_docs.write(tmp_path / "docs")
    assert [path.name for path in tmp_path.iterdir()] == ["docs"]
    assert (tmp_path / "docs" / "index.html").exists()


@pytest.mark.parametrize(
    ("kind", "kwargs", "word"),
    [
        ("expect_column_max_to_be_between", {"column": "absent", "max_value": 1}, "cannot check"),
        ("expect_column_max_to_be_between", {"column": "amount", "most": 1}, "validation error"),
        ("expect_nothing_of_the_kind", {}, "expect_nothing_of_the_kind"),
    ],
    ids=["no such column", "no such argument", "no such expectation"],
)
def test_a_rule_that_cannot_be_evaluated_is_no_verdict_on_the_data(table, kind, kwargs, word):
    with pytest.raises(PermanentFailure, match=word):
        _validate(table, (Rule("rule", "", "critical", None, kind, kwargs),))


def test_a_database_that_is_away_is_no_verdict_on_the_data(table, monkeypatch):
    away = settings().dsn("loader").replace("dbname=", "dbname=absent_")
    with pytest.raises(TransientFailure, match="cannot be reached"):
        expectations.validate("suite", RULES, "intake", table, away, {})


def test_a_check_leaves_no_transaction_open_and_the_next_is_quick(sampan, table):
    _validate(table)
    started = time.monotonic()
    for _ in range(10):
        _validate(table)
    assert (time.monotonic() - started) / 10 < 0.5
    open_ones = "select count(*) from pg_stat_activity where application_name = 'sampan-gate' and state <> 'idle'"
    assert sampan.one(open_ones, role="admin") == 0
    with psycopg.connect(settings().dsn("loader")) as connection:
        connection.execute("set lock_timeout to '1s'")
        connection.execute("lock table intake.sample in access exclusive mode")
