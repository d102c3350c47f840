"""The operator's desk: what is asked there is carried out by the platform, in the operator's name."""

from __future__ import annotations

import psycopg
from psycopg.types.json import Jsonb
from sampan import requests
from sampan.contracts.registry import get_contract
from sampan.settings import settings

from tests.factory import DAY, rows

FEED = "customs_declarations"


def deliver_held(partner, count: int = 60, broken: int = 30) -> int:
    """A delivery with more broken rows than its contract allows. Returns its batch."""
    needed = next(c.name for c in get_contract(FEED).stored if c.required and not c.primary_key)
    given = [row | ({needed: None} if n < broken else {}) for n, row in enumerate(rows(FEED, count))]
    partner.hands_over(FEED, DAY, given)
    batch = partner.ingest(FEED)
    assert batch["state"] == "held"
    return int(batch["batch_id"])


def plant_finding() -> None:
    """A broken critical rule of a mart, as the gate of a build leaves it."""
    with psycopg.connect(settings().dsn("loader"), autocommit=True) as loader:
        loader.execute("insert into ops.build (state, as_of_date, built_at) values ('built', current_date, now())")
        loader.execute(
            """
            insert into ops.gate_result
                (suite, rule, description, expectation, severity, success, build_no, kwargs, observed)
            values (
                'mart_exports_monthly', 'expect_totals_to_match',
                'The sum of a month is that of the declarations that were taken in.',
                'expect_column_sum_to_be_between', 'critical', false, (select max(build_no) from ops.build), %s, %s
            )
            """,
            [Jsonb({"column": "value_hkd", "min_value": 5_000_000}), Jsonb({"value": 1_234_567})],
        )


def test_an_operator_reads_what_was_found_beside_what_the_rule_asks_for(desks, sampan):
    plant_finding()
    operator = desks.client("sampan_operator")
    assert (
        "Found: 1,234,567. The rule: the sum of value_hkd is at least 5,000,000." in operator.get("/en/findings").text
    )
    assert "發現：1,234,567。規則：value_hkd 總和為至少 5,000,000" in operator.get("/zh-Hant/findings").text


def test_an_operator_accepts_a_held_batch_with_a_reason_and_it_is_published(desks, partner):
    batch = deliver_held(partner)
    operator = desks.client("sampan_operator")
    assert f"/en/held/{batch}" in operator.get("/en/held").text
    page = operator.get(f"/en/held/{batch}").text
    assert "is missing" in page
    assert operator.form(f"/en/held/{batch}", decision="accept", reason=" \n").status_code == 400
    asked = operator.form(f"/en/held/{batch}", decision="accept", reason="known fault, agreed by phone")
    assert asked.status_code == 200
    assert "being carried out" in asked.text
    (ended,) = requests.run()
    assert (ended.state, ended.feed) == ("done", FEED), ended.outcome
    found = partner.sampan.batch(FEED)
    assert (found["state"], found["rows_published"], found["rows_quarantined"]) == ("published", 30, 30)
    assert found["problem"]["accepted_by"] == operator.login
    assert found["problem"]["accepted_because"] == "known fault, agreed by phone"
    assert "done" in operator.get(f"/en/requests/{ended.request_id}").text
    assert "Nothing is held." in operator.get("/en/held").text
    assert requests.run() == []


def test_an_operator_rejects_a_held_batch_and_its_date_waits_for_another_delivery(desks, partner):
    batch = deliver_held(partner)
    operator = desks.client("sampan_operator")
    operator.form(f"/en/held/{batch}", decision="reject", reason="another month's file")
    (ended,) = requests.run()
    assert ended.state == "done"
    rejected = partner.sampan.rows("select state, rejected_by, rejected_because from ops.batch")
    assert rejected == [("held", operator.login, "another month's file")]
    assert partner.sampan.one("select count(*) from ops.open_problem") == 0
    assert partner.sampan.one("select count(*) from ops.broken_now where state = 'held'") == 0
    # By the day it is not held; by its number it can still be accepted.
    assert partner.sampan.cli("gate", FEED, "--date", str(DAY), "--accept", "x").returncode == 1
    operator.form(f"/en/held/{batch}", decision="accept", reason="it was the right file")
    assert [ended.state for ended in requests.run()] == ["done"]
    assert partner.sampan.batch(FEED)["state"] == "published"
