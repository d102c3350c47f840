"""The page of the gates: the newest result of every check, and since when it has been the same."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from sampan.calendar import HONG_KONG
from sampan.contracts.registry import get_contract
from sampan.monitoring import gates, page
from sampan.quality import mart_rules
from sampan.settings import settings

from tests.factory import DAY, rows

FEED, MART = "customs_declarations", "mart_exports_monthly"
# A count of rows, and a form of values.
RULES = [rule for rule in mart_rules.load()[MART] if rule.name in ("has_rows", "chapter_exists")]


def build(number: int, *outcomes: bool, description: str | None = None) -> None:
    """A gate's results on a build, by rules of a mart, an hour after those of the build before."""
    with psycopg.connect(settings().dsn("loader")) as connection:
        connection.execute(
            "insert into ops.build (build_no, as_of_date, state) overriding system value"
            " values (%s, '2026-07-06', 'released')",
            [number],
        )
        for rule, success in zip(RULES, outcomes, strict=True):
            observed = {"value": 7000} if rule.name == "has_rows" else None
            connection.execute(
                "insert into ops.gate_result (suite, rule, description, expectation, severity, success, build_no, kwargs,"
                " observed, checked_at) values (%s, %s, %s, %s, %s, %s, %s, %s, %s,"
                " timestamptz '2026-07-06 00:00+08' + make_interval(hours => %s))",
                [
                    MART, rule.name, description or rule.description, rule.expectation, rule.severity, success, number,
                    Jsonb(rule.kwargs), observed and Jsonb(observed), number,
                ],
            )  # fmt: skip


def shown() -> dict[str, Any]:
    return {
        check.rule: (check.success, check.subject, f"{check.since.astimezone(HONG_KONG):%F %R}")
        for check in gates.checks()
    }


def test_a_result_is_the_newest_and_since_when_it_has_been_the_same(sampan):
    assert "Nothing was checked yet." in gates.render("index.html")
    for number, outcomes in enumerate([(True, False), (True, True), (True, False), (True, False)], 1):
        build(number, *outcomes)
    assert shown() == {
        "has_rows": (True, "build 4", "2026-07-06 01:00"),
        "chapter_exists": (False, "build 4", "2026-07-06 03:00"),
    }
    assert [check.rule for check in gates.checks()] == ["chapter_exists", "has_rows"]
    text = gates.render("index.html")
    for part in (
        "1 of 2 checks is not met",
        "2 項檢查中有 1 項未符合",
        "number of rows: at least 1",
        "列數：至少 1",
        "(7,000)",
    ):
        assert part in text
    # A rule that is no longer asked is not shown, and one that is met again is so since then.
    build(5, True, True)
    assert shown()["chapter_exists"] == (True, "build 5", "2026-07-06 05:00")
    assert "All 2 checks are met." in gates.render("index.html")


def test_a_feed_and_a_mart_are_apart_and_no_text_is_markup(partner, tmp_path):
    first, second = (
        partner.hands_over(FEED, day, rows(FEED, 40, day)) and partner.ingest(FEED)["batch_id"]
        for day in (DAY, DAY + timedelta(days=1))
    )
    build(first, True, False, description="<script>alert(1)</script>")
    file = page.write(tmp_path / "status.html")
    status, text = file.read_text(), (tmp_path / "gates.html").read_text()
    assert 'href="gates.html"' in status
    assert 'href="status.html"' in text
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "http://" not in text + status
    assert "https://" not in text + status
    subjects = {(check.of_feed, check.subject) for check in gates.checks()}
    assert subjects == {(FEED, f"batch {second}"), (None, f"build {first}")}
    assert get_contract(FEED).title in text
