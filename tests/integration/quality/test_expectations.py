"""The wrapper of Great Expectations on real tables: verdicts and counts come back, values of rows never do."""

from __future__ import annotations

import logging
import time
from datetime import date

import psycopg
import pytest
from sampan.contracts.model import Rule
from sampan.errors import PermanentFailure, TransientFailure
from sampan.monitoring import gates
from sampan.quality import expectations
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


def test_no_value_of_a_row_is_returned_stored_shown_or_logged(sampan, table, caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        found = _validate(table)
        a_build(1)
        with psycopg.connect(settings().dsn("loader")) as connection:
            expectations.store(connection, "suite", found, build_no=1)
        page = gates.render("index.html")
    assert "Has b." in page
    texts = [repr(found), repr(sampan.rows("select * from ops.gate_result")), caplog.text, *capfd.readouterr(), page]
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
    assert (time.monotonic() - started) / 10 < 3
    open_ones = "select count(*) from pg_stat_activity where application_name = 'sampan-gate' and state <> 'idle'"
    assert sampan.one(open_ones, role="admin") == 0
    with psycopg.connect(settings().dsn("loader")) as connection:
        connection.execute("set lock_timeout to '1s'")
        connection.execute("lock table intake.sample in access exclusive mode")
