"""A family of marts that fails waits, and the release of all others goes on. All values are synthetic."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from sampan import consent
from sampan.contracts.model import Rule
from sampan.errors import PermanentFailure, Problem
from sampan.governance import retention
from sampan.marts import build, carry, release
from sampan.quality import mart_rules
from sampan.settings import settings

from tests.conftest import Sampan
from tests.integration.marts.test_build import _shared_state, dbt_folder, full
from tests.integration.published import publish
from tests.integration.test_consent import TODAY, bank, change, deliver, make_release, seen

__all__ = ["_shared_state", "dbt_folder"]
TRADE, CONSENT, INSURANCE = "marts__trade", "marts__consent", "marts__insurance"
# Tables that only one family reads.
ONLY_OF = {TRADE: "int_orders__parcels", CONSENT: "int_consents__current"}
MART, RULE = "mart_insurance_utilisation", "nothing_yet"


def rename(before: str, after: str) -> None:
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
        connection.execute(f"alter table intermediate.{before} rename to {after}")


def releases_of(sampan: Sampan, step: str) -> set[int]:
    """Numbers of the releases that the rows of a step's marts were made for, as BI reads them."""
    found: set[int] = set()
    for mart in carry.marts_of(step):
        if mart != "mart_credit_features":
            found |= {number for (number,) in sampan.rows(f"select release_no from marts.{mart}", role="bi")}
    return found


def trades(day: int) -> None:
    number = f"DDDDDDDD{day:02}"
    publish("customs_declarations", f"2026-07-{day:02}", [{"declaration_no": number, "value_hkd": day}])
    policy = {"policy_no": f"SBP00000{day:02}", "cover_start_on": "2025-01-01", "cover_end_on": "2026-06-30"}
    publish("hkecic_policies", f"2026-07-{day:02}", [policy])
    order = {"oid": f"10000000{day:02}", "tid": str(day), "modified_at": f"2026-07-{day:02} 01:00"}
    times = {"created_at": f"2026-07-{day:02} 00:30", "paid_at": f"2026-07-{day:02} 01:00"}
    publish("platform_orders", f"2026-07-{day:02}", [order | times | {"status": "WAIT_SELLER_SEND_GOODS"}])


def coverage(sampan: Sampan) -> dict[str, set[Any]]:
    """From which earlier release each carried step's marts are, by what readers are told; None where they are new."""
    rows = dict(sampan.rows("select mart, carried_from_release_no from marts.dim_mart_coverage", role="bi"))
    steps = (TRADE, CONSENT, INSURANCE, "marts__sme", "summary")
    return {step: {rows[mart] for mart in carry.marts_of(step) if mart in rows} for step in steps}


@pytest.mark.parametrize(
    "corrected", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["until it is decided", "to the end"]
)
def test_families_that_fail_wait_and_the_others_are_released(sampan, models_only, monkeypatch, corrected):
    trades(6)
    deliver(sampan, [change(1), change(2)])
    first = full()
    with bank() as teller:
        readable = seen(teller)
    assert readable
    trades(7)
    rules = mart_rules.load()
    unmet = Rule(
        name=RULE, description="There is no utilisation yet.", severity="critical",
        expectation="expect_table_row_count_to_equal", kwargs={"value": 0},
    )  # fmt: skip
    monkeypatch.setattr(mart_rules, "load", lambda: rules | {MART: (*rules[MART], unmet)})

    # A family that cannot be built, one under consents too, and one whose mart breaks a critical rule.
    for step in ("staging", "identity", "intermediate"):
        build.run(step)
    for table in ONLY_OF.values():
        rename(table, "gone_" + table)
    with pytest.raises(PermanentFailure) as failed:
        release.refresh()
    assert failed.value.problem.rule == "build.failed"
    assert all(step in str(failed.value) for step in ONLY_OF)
    second = release.list_releases()[0]["release_no"]
    assert second > first
    assert {step: releases_of(sampan, step) for step in (TRADE, INSURANCE, "marts__sme")} == {
        TRADE: {first},
        INSURANCE: {first},
        "marts__sme": {second},
    }
    assert coverage(sampan) == {
        TRADE: {first},
        CONSENT: {first},
        INSURANCE: {first},
        "summary": {first},
        "marts__sme": {None},
    }
    exports = "select is_quotable, value_hkd from marts.mart_exports_monthly"
    assert {quotable for quotable, _ in sampan.rows(exports, role="bi")} == {False}
    told = [message for (message,) in sampan.rows("select message from ops.alert where kind = 'carried' order by 1")]
    assert len(told) == 4
    assert sum("`sampan refresh --force`" in message for message in told) == 4
    assert f"{MART}: {RULE}" in " ".join(told)

    # What banks read is guarded as before: only theirs, and only while the consent lives.
    with bank() as teller:
        assert seen(teller) == readable
    with bank(others=["bi_reader"]) as other, pytest.raises(psycopg.errors.InsufficientPrivilege):
        other.execute(f"select * from consented_{second}.mart_credit_features")
    consent.revoke("CS0000000001", "the owner rang", "wong")
    with bank() as teller:
        assert {number for _, number, _ in seen(teller)} == {number for _, number, _ in readable} - {"CS0000000001"}

    # A person decides on the finding; what was corrected is built again.
    assert [(item["mart"], item["rule"], item["decision"]) for item in release.findings()] == [(MART, RULE, None)]
    with pytest.raises(PermanentFailure, match=f"did you mean {MART} {RULE}"):
        release.decide(MART, "another", "accepted", "why", "wong")
    with pytest.raises(PermanentFailure, match="give a reason"):
        release.decide(MART, RULE, "accepted", " ", "wong")
    release.decide(MART, RULE, "rejected", "looked at", "chan")
    release.decide(MART, RULE, "accepted", "the first policies have come", "wong")
    if not corrected:
        return
    for table in ONLY_OF.values():
        rename("gone_" + table, table)
    third = release.refresh(force=True)["release_no"]
    assert [releases_of(sampan, step) for step in (TRADE, INSURANCE, "marts__sme")] == [{third}] * 3
    assert set().union(*coverage(sampan).values()) == {None}
    decided = "select verdict, reason, decided_by, ended_at is null from ops.finding_decision order by decision_id"
    assert sampan.rows(decided) == [
        ("rejected", "looked at", "chan", True),
        ("accepted", "the first policies have come", "wong", True),
    ]
    # The acceptance is of this breach: once the rule is met, the next breach is a new finding.
    met = Rule(
        name=RULE, description="", severity="critical", expectation="expect_table_row_count_to_be_between",
        kwargs={"min_value": 0},
    )  # fmt: skip
    monkeypatch.setattr(mart_rules, "load", lambda: rules | {MART: (*rules[MART], met)})
    release.refresh(force=True)
    assert sampan.rows("select mart, rule from ops.finding_accepted") == []
    assert release.findings() == []


@pytest.mark.slow
def test_a_family_with_a_view_waits_when_its_gate_says_no(sampan, models_only, monkeypatch):
    """Kind of fault: the tables that a view reads could not be dropped, so that nothing was released."""
    trades(6)
    first = full()
    trades(7)
    rules, mart = mart_rules.load(), "mart_funding_headroom"
    unmet = Rule(
        name=RULE, description="More than there are.", severity="critical",
        expectation="expect_table_row_count_to_equal", kwargs={"value": 10**9},
    )  # fmt: skip
    monkeypatch.setattr(mart_rules, "load", lambda: rules | {mart: (*rules[mart], unmet)})
    view = "select {} from marts.mart_funding_headroom_any_day"
    before = sampan.one(view.format("count(*)"), role="bi")
    assert before
    second = release.refresh()["release_no"]
    assert second > first
    assert sampan.one(view.format("count(*)"), role="bi") == before
    assert sampan.rows(view.format("distinct release_no"), role="bi") == [(first,)]


def test_what_all_others_rest_on_stops_the_build_and_the_message_says_which_batch_brought_what(sampan, models_only):
    publish("customs_declarations", "2026-07-06", [{"declaration_no": "DDDDDDDD01"}])
    publish("hkecic_policies", "2026-07-06", [{"policy_no": "SBP0000001"}])
    for step in ("staging", "identity", "intermediate"):
        build.run(step)
    wrong = publish("customs_declarations", "2026-07-07", [{"declaration_no": "DDDDDDDD02"}])
    publish("hkecic_policies", "2026-07-07", [{"policy_no": "SBP0000002"}])
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
        connection.execute("alter table intermediate.int_customs__lines_versioned rename column value_hkd to other")
    with pytest.raises(PermanentFailure) as failed:
        release.refresh()
    message = str(failed.value)
    assert "step intermediate of build 1 failed" in message
    assert f"customs_declarations batch {wrong} of 2026-07-07" in message
    assert "hkecic_policies batch" not in message
    assert "`sampan withdraw <feed> --batch <number>" in message
    assert release.list_releases() == []


def test_what_was_made_for_a_release_past_its_retention_is_carried_no_more(sampan):
    """It has rows of deliveries and persons that are deleted everywhere else: each build would keep them for 90 days more."""
    deliver(sampan, [change(1)])
    make_release()

    def carries() -> tuple[bool, str]:
        with psycopg.connect(settings().dsn("builder"), autocommit=True) as connection:
            made = "insert into ops.build (state, as_of_date) values ('open', %s) returning build_no"
            ((number,),) = connection.execute(made, [TODAY]).fetchall()
            connection.execute("create schema build")
            assert carry.carry(connection, number, CONSENT, Problem("build.failed", "it broke"))
            ((found,),) = connection.execute("select to_regclass('build.mart_credit_features') is not null").fetchall()
            connection.execute(
                "drop schema build cascade; update ops.build set state = 'as_known' where state = 'open'"
            )
        return found, sampan.rows("select message from ops.alert where kind = 'carried' order by alert_id")[-1][0]

    found, told = carries()
    assert (found, "Left out" in told) == (True, False)
    days = settings().release_days + 1
    sampan.rows("update ops.release set released_at = released_at - make_interval(days => %s) returning 1", days)
    found, told = carries()
    assert (found, "mart_credit_features" in told.partition("Left out")[2]) == (False, True)
    # The live release itself stays: readers would have nothing. That is told.
    assert retention.run()["releases"] == 0
    assert "is past its retention" in sampan.rows("select message from ops.alert where kind = 'retention'")[0][0]
