"""What is due when, and where it is stuck: the same function is behind the marts, `sampan status` and these tests."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from sampan.calendar import HONG_KONG
from sampan.contracts.registry import all_contracts, get_contract
from sampan.errors import PermanentFailure, TransientFailure
from sampan.ingest import fetch, freshness, gate, land
from sampan.ingest import load as loading
from sampan.ingest import publish as publishing
from sampan.marts import build, dbt, release
from sampan.settings import settings

from infra.simulator.serve import Behaviour, Server
from tests.factory import encode, rows
from tests.integration.marts.answers.quality import owed_by
from tests.integration.published import publish, publish_csv

FEED = "customs_declarations"  # due at 07:30 on the next business day, published an hour later
MONDAY, TUESDAY = date(2026, 7, 6), date(2026, 7, 7)
ROW = {"declaration_no": "D000000001"}
MARKS = [
    {"certificate_no": f"QMP-{number}", "holder_name": f"Holder {number}", "holder_brn": brn}
    for number, brn in enumerate(["90000001", None, None])
]


def hkt(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=HONG_KONG)


def state(at: str, day: date = TUESDAY, feed: str = FEED) -> str | None:
    """State of one delivery at a time, None where none is owed."""
    found = {row["business_date"]: row["state"] for row in freshness.days(feed, hkt(at))}
    return found.get(day)


def owed(at: str, feed: str = FEED) -> dict[date, dict]:
    return {row["business_date"]: row for row in freshness.days(feed, hkt(at))}


@pytest.fixture
def begun(sampan):
    """A feed whose first delivery, of Monday, arrived in time; the platform looked for the next one when it was told to."""
    number = publish(FEED, MONDAY, [ROW], received_at="2026-07-07 07:10+08")
    polls("2026-07-07 07:30")
    sampan.rows("update ops.batch set landed_at = '2026-07-07 07:30+08' where batch_id = %s returning 1", number)
    return sampan


def polls(at: str) -> None:
    freshness.record_poll(FEED, at=hkt(at))


def advice(at: str, waited: timedelta | None = timedelta()) -> tuple[str, str]:
    """Whether to build at a time, and the reason."""
    freshness.set_clock(hkt(at))
    return build.advise(waited)


# --- the four states --------------------------------------------------------------------------------------------------


def test_a_delivery_is_late_at_the_partner_when_polling_found_nothing(begun):
    polls("2026-07-08 07:30")
    assert state("2026-07-08 07:29") == "not_yet_due"
    assert state("2026-07-08 07:31") == "late_at_partner"
    assert state("2026-07-09 12:00") == "late_at_partner"


def test_a_delivery_is_late_here_when_it_was_not_polled_by_the_deadline(begun):
    assert state("2026-07-08 08:29") == "not_yet_due"
    assert state("2026-07-08 08:31") == "late_here"


def test_a_delivery_is_late_here_when_it_came_and_is_not_published_by_its_deadline(begun):
    polls("2026-07-08 07:30")
    begun.deliver(FEED, TUESDAY, "delivery.csv.gz", b"waits")
    fetch.run(FEED)
    assert state("2026-07-08 08:29") == "not_yet_due"
    assert state("2026-07-08 08:31") == "late_here"


def test_a_delivery_is_held_until_another_of_the_day_arrives_when_the_gate_holds_it(begun):
    begun.deliver(FEED, TUESDAY, "delivery.csv.gz", b"this is not gzip")
    begun.ingest(FEED)
    assert state("2026-07-07 22:00") == "held"
    publish(FEED, TUESDAY, [ROW], received_at="2026-07-08 07:00+08")
    (row,) = [row for row in freshness.days(FEED, hkt("2026-07-08 12:00")) if row["business_date"] == TUESDAY]
    assert (row["state"], row["deliveries"], row["held_deliveries"], row["rows_late"]) == ("arrived", 2, 1, 0)


def test_a_delivery_is_held_when_landing_refused_it(begun):
    begun.deliver(FEED, TUESDAY, "delivery.csv.gz", b"")
    begun.ingest(FEED)
    assert state("2026-07-08 12:00") == "held"


def test_a_late_delivery_arrives_afterwards_and_its_rows_count_as_late_but_those_of_its_correction_do_not(begun):
    polls("2026-07-08 07:30")
    assert state("2026-07-08 11:00") == "late_at_partner"
    publish(FEED, TUESDAY, [ROW, ROW | {"line_no": 2}], received_at="2026-07-08 11:30+08")
    publish(FEED, TUESDAY, [ROW | {"line_no": n} for n in range(3, 9)], received_at="2026-07-09 11:30+08")
    row = owed("2026-07-08 12:00")[TUESDAY]
    assert (row["state"], row["rows_published"], row["rows_late"]) == ("arrived", 8, 2)
    assert owed("2026-07-08 12:00")[MONDAY]["rows_late"] == 0


def test_a_missing_delivery_is_accepted_when_the_contract_says_so(sampan):
    feed = "funding_payments"
    publish(feed, MONDAY, [{"payment_no": "P1", "application_no": "A1"}])
    assert state("2026-07-08 08:00", feed=feed) == "not_yet_due"
    assert state("2026-07-08 12:00", feed=feed) == "accepted"


def test_an_earlier_day_of_an_api_is_not_missing_when_a_later_answer_covers_it(sampan):
    feed = "hkma_exchange_rates"
    publish(feed, MONDAY, [{"end_of_day": MONDAY}])
    assert [row["state"] for row in freshness.days(feed, hkt("2026-07-09 20:00"))] == ["arrived"] + [
        "late_at_partner"
    ] * 3
    publish(feed, date(2026, 7, 9), [{"end_of_day": TUESDAY}])
    assert [row["state"] for row in freshness.days(feed, hkt("2026-07-09 20:00"))] == ["arrived"] * 4


def test_a_failed_api_is_late_at_the_partner_and_its_problem_is_kept(sampan, monkeypatch):
    feed = "hkma_exchange_rates"
    with Server(Behaviour(1, "failure")) as server:
        monkeypatch.setenv("SAMPAN_HKMA_URL", server.url)
        settings.cache_clear()
        with pytest.raises(TransientFailure):
            fetch.run(feed, MONDAY)
    publish(feed, MONDAY, [{"end_of_day": MONDAY}])
    assert state("2026-07-07 20:00", feed=feed) == "late_at_partner"
    ((problem,),) = sampan.rows("select problem from ops.feed_poll where feed = %s", feed)
    assert problem["rule"] == "api.away"


def test_the_schedule_asks_a_monthly_api_until_it_has_answered_and_a_person_always(sampan, monkeypatch):
    feed, asked = "hkhs_codes", []
    monkeypatch.setattr(fetch, "_download", lambda contract, day: asked.append(day))
    publish(feed, date(2026, 6, 3), [])
    for at in ("2026-07-03 08:59", "2026-07-03 09:00", "2026-07-06 09:00", "2026-07-07 09:00"):
        freshness.set_clock(hkt(at))
        fetch.run(feed, only_owed=True)
        if at == "2026-07-06 09:00":
            publish(feed, MONDAY, [])
    assert asked == [date(2026, 7, 3), MONDAY], "not due, due, away and asked again, answered"
    fetch.run(feed)
    fetch.run(feed, date(2026, 7, 2), only_owed=True)
    assert asked[2:] == [TUESDAY, date(2026, 7, 2)]


# --- what a build waits for -------------------------------------------------------------------------------------------


@pytest.fixture
def waiting(begun):
    """The delivery of Monday landed and was published just now, while the clock stands in the past, and waits for a build."""
    begun.rows("update ops.batch set landed_at = clock_timestamp(), published_at = clock_timestamp() returning 1")
    return begun


def test_a_build_waits_for_what_is_due_until_it_was_polled_for(waiting):
    assert advice("2026-07-08 06:59") == ("build", "all that was due has arrived")
    assert advice("2026-07-08 07:01") == ("skip", f"due within half an hour: {FEED}")
    assert advice("2026-07-08 07:31") == ("wait", f"arriving: {FEED}")
    # Not polled by the deadline: it may be polled yet.
    assert advice("2026-07-08 11:00") == ("wait", f"arriving: {FEED}")
    polls("2026-07-08 07:32")
    assert state("2026-07-08 11:00") == "late_at_partner"
    assert advice("2026-07-08 11:00") == ("build", "all that was due has arrived")


def test_a_build_waits_for_a_delivery_on_its_way_and_for_none_that_is_held(waiting):
    polls("2026-07-08 07:30")
    waiting.deliver(FEED, TUESDAY, "delivery.csv.gz", b"this is not gzip")
    fetch.run(FEED)
    assert advice("2026-07-08 09:00") == ("wait", f"arriving: {FEED}")
    land.run(FEED)
    assert advice("2026-07-08 09:00") == ("wait", f"arriving: {FEED}")
    loading.run(FEED)
    assert state("2026-07-08 09:00") == "held"
    assert advice("2026-07-08 09:00") == ("build", "all that was due has arrived")


def test_a_build_waits_for_a_correction_of_a_day_that_arrived(waiting):
    waiting.deliver(FEED, MONDAY, "correction.csv.gz", b"this is not gzip")
    fetch.run(FEED)
    assert state("2026-07-07 22:00", MONDAY) == "arrived"
    assert advice("2026-07-07 22:00") == ("wait", f"arriving: {FEED}")


def test_a_build_waits_no_longer_than_it_may(waiting):
    patience = timedelta(minutes=15)
    assert advice("2026-07-08 07:31", patience - timedelta(seconds=1)) == ("wait", f"arriving: {FEED}")
    assert advice("2026-07-08 07:31", patience) == ("build", f"without {FEED}, which did not arrive")
    assert advice("2026-07-08 07:31", None) == ("build", "at once")
    assert advice("2026-07-08 07:01", None) == ("build", "at once")
    assert advice("2026-07-08 07:01") == ("skip", f"due within half an hour: {FEED}")
    waiting.rows("update ops.batch set published_at = clock_timestamp() - interval '6 hours' returning 1")
    assert advice("2026-07-08 07:01") == ("build", "all that was due has arrived")


def test_the_steps_after_landing_are_needed_while_a_delivery_is_on_its_way(begun):
    assert not publishing.is_needed(FEED)
    begun.deliver(FEED, TUESDAY, "delivery.csv.gz", b"this is not gzip")
    fetch.run(FEED)
    assert publishing.is_needed(FEED)
    land.run(FEED)
    assert publishing.is_needed(FEED)
    loading.run(FEED)
    assert state("2026-07-08 12:00") == "held"
    assert not publishing.is_needed(FEED)
    # What rests on a consent that has ended is deleted each time.
    assert publishing.is_needed("cdi_consents")


def test_a_build_that_failed_is_tried_again_when_more_was_published_or_after_hours(waiting):
    number = waiting.rows("insert into ops.build (as_of_date) values ('2026-07-06') returning build_no")[0][0]
    step = (
        "insert into ops.build_step (build_no, step, state, ended_at) values (%s, 'staging', 'failed', %s) returning 1"
    )
    waiting.rows("update ops.batch set published_at = clock_timestamp() - interval '2 hours' returning 1")
    waiting.rows(step, number, datetime.now(UTC) - timedelta(hours=1))
    assert advice("2026-07-07 22:00")[0] == "skip"
    assert advice("2026-07-07 22:00")[1].endswith("nothing was published or decided since")
    assert advice("2026-07-07 22:00", None) == ("build", "at once")
    waiting.rows(
        """update ops.build set state = 'failed', problem = '{}', ended_at = clock_timestamp() - interval '1 hour'
        returning 1"""
    )
    assert advice("2026-07-07 22:00")[0] == "skip"
    waiting.rows("update ops.build set ended_at = clock_timestamp() - interval '6 hours' returning 1")
    assert advice("2026-07-07 22:00") == ("build", "all that was due has arrived")
    waiting.rows("update ops.build set ended_at = clock_timestamp() - interval '3 hours' returning 1")
    assert advice("2026-07-07 22:00") == ("build", "all that was due has arrived")


def test_there_is_nothing_to_build_without_a_published_batch(sampan):
    sampan.deliver(FEED, MONDAY, "delivery.csv.gz", b"waits")
    fetch.run(FEED)
    assert advice("2026-07-07 09:00") == ("skip", "nothing that was published or decided is waiting for a build")
    assert advice("2026-07-07 09:00", None) == ("skip", "nothing that was published or decided is waiting for a build")


def test_a_finding_that_a_person_accepts_is_built_again_without_another_delivery(sampan):
    """Kind of fault: what is decided at a desk takes effect for who has a terminal, and else when the next delivery comes."""
    number = sampan.rows(
        "insert into ops.build (as_of_date, state, ended_at) values ('2026-07-06', 'released', clock_timestamp())"
        " returning build_no"
    )[0][0]
    result = (
        "insert into ops.gate_result (suite, rule, description, expectation, severity, success, build_no, kwargs)"
        " values ('mart_exports_monthly', 'no_sudden_drop', '', 'x', 'critical', false, %s, '{}') returning 1"
    )
    sampan.rows(result, number)
    release.decide("mart_exports_monthly", "no_sudden_drop", "rejected", "looked at", "wong")
    assert advice("2026-07-07 22:00", None)[0] == advice("2026-07-07 22:00")[0] == "skip"
    release.decide("mart_exports_monthly", "no_sudden_drop", "accepted", "the port was closed", "wong")
    assert advice("2026-07-07 22:00", None)[0] == advice("2026-07-07 22:00")[0] == "build"
    # Of a build that failed as a whole, too, although one that fails is not tried again for hours.
    sampan.rows(
        "update ops.build set state = 'failed', problem = '{}', ended_at = clock_timestamp() - interval '1 min' returning 1"
    )
    assert advice("2026-07-07 22:00")[0] == "build"
    # The next build has taken it into account.
    sampan.rows("insert into ops.build (as_of_date, state) values ('2026-07-07', 'released') returning 1")
    assert advice("2026-07-07 22:00", None)[0] == "skip"


def test_a_link_that_a_person_decides_is_built_again_without_another_delivery(sampan):
    """Kind of fault: what is decided at a desk takes effect for who has a terminal, and else when the next delivery comes."""
    released = "insert into ops.build (as_of_date, state) values ('2026-07-06', 'released') returning build_no"
    decide = (
        "insert into ops.identity_decision (source, source_key, number, verdict, reason, decided_by)"
        " values ('trader', 'a', '52000001', 'same', 'looked at', 'wong') returning decision_id"
    )
    link = (
        "insert into ops.identity_run (build_no, model, whole, last_decision_id, counts)"
        " values (%s, '', false, %s, '{}') returning 1"
    )
    sampan.rows(link, sampan.one(released), sampan.one(decide))
    assert advice("2026-07-07 22:00", None)[0] == advice("2026-07-07 22:00")[0] == "skip"
    newest = sampan.one(decide)
    assert advice("2026-07-07 22:00", None)[0] == advice("2026-07-07 22:00")[0] == "build"
    sampan.rows(link, sampan.one(released), newest)
    assert advice("2026-07-07 22:00", None)[0] == "skip"


# --- days off ---------------------------------------------------------------------------------------------------------


def test_nothing_is_due_of_a_holiday_and_the_day_before_is_due_after_it(sampan):
    publish(FEED, date(2026, 6, 30), [ROW])
    found = owed("2026-07-03 12:00")
    assert date(2026, 7, 1) not in found
    assert found[date(2026, 6, 30)]["due_at"] == hkt("2026-07-02 07:30")


def test_the_holidays_that_the_government_lists_apply_to_the_years_they_cover(sampan):
    publish(FEED, MONDAY, [ROW])
    extra = {"uid": "20260708@1823.gov.hk", "starts_on": "2026-07-08", "ends_on": "2026-07-09", "summary": "A day more"}
    publish_holidays([extra])
    assert set(owed("2026-07-10 12:00")) == {MONDAY, TUESDAY, date(2026, 7, 9), date(2026, 7, 10)}
    assert owed("2026-07-10 12:00")[TUESDAY]["due_at"] == hkt("2026-07-09 07:30")
    # Of 2027 nothing was listed: what the software knows holds.
    assert date(2027, 1, 1) not in owed("2027-01-10 12:00")


def publish_holidays(events: list[dict[str, str]]) -> None:
    columns = [column.name for column in get_contract("hk_public_holidays").stored]
    lines = [",".join(str(({"language": "en"} | event).get(name, "")) for name in columns) for event in events]
    publish_csv("hk_public_holidays", columns, MONDAY, "\n".join(lines) + "\n", None)


def test_a_typhoon_day_is_missing_until_it_is_closed_and_again_once_it_is_reopened(sampan):
    publish(FEED, MONDAY, [ROW])
    at = "2026-07-08 12:00"
    assert state(at) == "late_at_partner"
    freshness.close([TUESDAY], "Typhoon signal No. 10", "an operator")
    assert state(at) is None
    assert owed(at)[MONDAY]["due_at"] == hkt("2026-07-08 07:30")
    assert freshness.reopen(TUESDAY)
    assert not freshness.reopen(TUESDAY)
    assert state(at) == "late_at_partner"


def test_a_day_is_closed_for_one_feed_only_when_its_partner_was_shut(sampan):
    publish(FEED, MONDAY, [ROW])
    publish("platform_orders", MONDAY, [{"tid": "1", "oid": "1", "created_at": MONDAY, "modified_at": MONDAY}])
    freshness.close([TUESDAY], "office moved", "an operator", FEED)
    assert state("2026-07-08 12:00") is None
    assert state("2026-07-08 12:00", feed="platform_orders") == "late_at_partner"
    with pytest.raises(PermanentFailure):
        freshness.close([TUESDAY], " ", "an operator")
    with pytest.raises(PermanentFailure):
        freshness.close([TUESDAY], "why", "an operator", "no_such_feed")


def test_every_feed_owes_what_its_contract_says_over_two_years(sampan):
    first, until = date(2025, 1, 2), date(2026, 12, 31)
    sampan.rows("update ops.feed set added_at = %s returning 1", hkt(f"{first} 12:00"))
    rows = freshness.days(at=hkt(f"{until} 23:59"))
    found: dict[str, dict] = {}
    for row in rows:
        found.setdefault(row["feed"], {})[row["business_date"]] = (
            row["last_date"],
            row["due_at"].astimezone(HONG_KONG),
        )
    assert len(found) == len(all_contracts()) >= 28
    assert len(rows) > 5000
    for feed, owed_by_it in found.items():
        assert owed_by_it == owed_by(feed, first, until), feed


# --- what readers and operators see -----------------------------------------------------------------------------------


def released(at: str) -> int:
    freshness.set_clock(hkt(at))
    build.run(force=True)
    release.gate()
    return release.run()["release_no"]


def judged(sampan, batch_id: int, severity: str) -> None:
    """Store the results of two expectations for a batch; one failed."""
    for rule, success in (("met", True), ("not_met", False)):
        sampan.rows(
            "insert into ops.gate_result (suite, batch_id, rule, description, expectation, severity, success, kwargs)"
            " values ('a suite', %s, %s, 'A rule.', 'expect', %s, %s, '{}') returning 1",
            batch_id, rule, severity, success,
        )  # fmt: skip


def on_the_way(sampan) -> None:
    """Leave a batch that is gated, with a row in quarantine, and one that is loaded: an ingest in progress."""
    day, contract = date(2026, 7, 8), get_contract(FEED)
    given = rows(FEED, 40, day)
    for name, steps in (("gated", (fetch, land, loading, gate)), ("loaded", (fetch, land, loading))):
        sampan.deliver(FEED, day, f"{name}.csv.gz", encode(contract, [given[0] | {"value_hkd": "-1"}, *given[1:]]))
        for step in steps:
            step.run(FEED)
        given = given[:-1]
    states = (
        "select state, rows_in, rows_quarantined from ops.batch where feed = %s and state <> 'published' order by 1"
    )
    assert sampan.rows(states, FEED) == [("gated", 40, 1), ("loaded", 39, None)]


def parsed_project() -> dict:
    """dbt's manifest of the project."""
    return dbt.DbtRunner().project()


def ancestors(mart: str, nodes: dict, sources: dict, seen: set[str] | None = None) -> set[str]:
    """Feeds under a mart, by dbt's own manifest; linked names count as the feeds with names."""
    seen = set() if seen is None else seen
    found: set[str] = set()
    for node in nodes[mart]["depends_on"].get("nodes", ()):
        if node in seen:
            continue
        seen.add(node)
        if node in nodes:
            found |= ancestors(node, nodes, sources, seen)
        elif sources[node]["source_name"] == "raw":
            found.add(sources[node]["name"])
        elif sources[node]["name"] == "identity_link_known":
            found |= ancestors("model.sampan.stg_ops__identity_names", nodes, sources, seen)
    return found


def test_readers_are_told_what_is_broken_and_what_each_mart_covers(sampan, models_only):
    for day in (MONDAY, TUESDAY, date(2026, 7, 8)):
        publish(FEED, day, [ROW | {"declaration_no": f"D{day}"}], received_at=f"{day + timedelta(days=1)} 07:00+08")
        if day != TUESDAY:
            publish("funding_applications", day, [{"application_no": f"A{day}", "status_on": day}],
                    received_at=f"{day + timedelta(days=1)} 11:00+08")  # fmt: skip
    freshness.record_poll(FEED)
    freshness.record_poll("funding_applications")
    # A correction that is refused is held, although its day arrived.
    publish("hkecic_policies", MONDAY, [{"policy_no": "P"}], received_at=f"{TUESDAY} 07:00+08")
    sampan.deliver(
        "hkecic_policies", MONDAY, f"x.{get_contract('hkecic_policies').source.extension}", b"\x00 this is not a table"
    )
    sampan.ingest("hkecic_policies")
    judged(sampan, publish("quality_marks", MONDAY, MARKS), "warning")
    on_the_way(sampan)
    number = released("2026-07-09 12:00")

    mart = sampan.rows("select feed, business_date, state, rows_late from marts.fct_feed_day order by 1, 2", role="bi")
    live = sampan.rows("select feed, business_date, state, rows_late from ops.feed_day order by 1, 2")
    assert mart == live
    assert len({feed for feed, *_ in mart}) >= 2
    quality = {
        row[0]: row[1:]
        for row in sampan.rows(
            "select feed, state, is_broken, broken_since, last_loaded_date, last_complete_date, late_at_partner_count,"
            " rows_published, rows_late, arrived_late_count, rows_in, rows_quarantined, quarantine_open_count"
            " from marts.mart_data_quality",
            role="bi",
        )
    }
    assert quality.keys() == all_contracts().keys()
    assert quality[FEED] == ("healthy", False, None, date(2026, 7, 8), date(2026, 7, 8), 0, 3, 0, 0, 3, 0, 1)
    assert quality["funding_applications"] == (
        "late_at_partner", True, TUESDAY, date(2026, 7, 8), MONDAY, 1, 2, 2, 2, 2, 0, 0,
    )  # fmt: skip
    assert quality["platform_orders"][:2] == ("no_data", False)
    assert quality["hkecic_policies"][:3] == ("held", True, TUESDAY)
    assert dict(sampan.rows("select feed, state from ops.feed_now")) == {feed: row[0] for feed, row in quality.items()}
    ((waiting, asked, failed, named, unmatched, share),) = sampan.rows(
        "select (select sum(waiting_count) from marts.mart_data_quality), expectation_count, failed_expectation_count,"
        " named_count, unmatched_count, unmatched_pct from marts.mart_data_quality where feed = 'quality_marks'",
        role="bi",
    )
    assert (waiting, asked, failed, named, unmatched, share) == (1, 2, 1, 3, 2, Decimal("66.67"))

    manifest = parsed_project()
    marts = {
        name: node["name"]
        for name, node in manifest["nodes"].items()
        if node["resource_type"] == "model" and node["config"]["schema"] == "build"
    }
    wanted = {
        (mart, feed)
        for name, mart in marts.items()
        for feed in ancestors(name, manifest["nodes"], manifest["sources"])
        if mart != "dim_mart_coverage"
    }
    coverage = sampan.rows(
        "select mart, feed, state, is_behind, last_complete_date, mart_complete_date from marts.dim_mart_coverage",
        role="bi",
    )
    # What Python estimates in the build is not in the graph: these marts name their feeds.
    named = {row[:2] for row in coverage} - wanted
    estimated = {
        "mart_design_gallery_effect",
        "mart_festival_effect",
        "mart_funding_outcome_months",
        "mart_funding_outcomes",
        "mart_mark_effect",
    }
    assert {mart for mart, _ in named} == estimated
    assert wanted <= {row[:2] for row in coverage}
    assert len(wanted) > 30
    shown = {(mart, feed): tuple(rest) for mart, feed, *rest in coverage}
    assert shown["mart_sme_trade_monthly", FEED][:3] == ("healthy", False, date(2026, 7, 8))
    assert {(feed, state) for (_, feed), (state, *_) in shown.items()} <= {
        (feed, row[0]) for feed, row in quality.items()
    }
    assert shown["mart_funding_headroom", "funding_applications"][:3] == ("late_at_partner", True, MONDAY)
    assert shown["mart_sme_360", "funding_applications"][3] is None, "a mart is complete when all its feeds are"

    # The late one arrives: the next release says so.
    publish("funding_applications", TUESDAY, [{"application_no": "A", "status_on": TUESDAY}])
    assert released("2026-07-09 13:00") == number + 1
    ((state_now, complete),) = sampan.rows(
        "select state, last_complete_date from marts.mart_data_quality where feed = 'funding_applications'", role="bi"
    )
    assert (state_now, complete) == ("healthy", date(2026, 7, 8))


def test_status_says_what_is_missing_and_where_at_the_time_that_is_asked_for(begun):
    polls("2026-07-10 07:30")
    text = begun.cli("status", "--now", "2026-07-10 08:00").stdout
    assert "Broken at 2026-07-10 08:00, Hong Kong time" in text
    line = next(line for line in text.splitlines() if "2026-07-07 to 2026-07-09" in line)
    assert line.split("\t")[:4] == [FEED, "late at the partner", "2026-07-07 to 2026-07-09", "3"]
    broken = begun.cli("status", FEED, "--now", "2026-07-07 12:00").stdout.partition("# Feeds")[0]
    assert "late at the partner" not in broken


def test_the_clock_and_days_off_are_set_by_command(begun):
    assert begun.cli("calendar", "clock", "2026-07-08 12:00").returncode == 0
    assert freshness.now() == hkt("2026-07-08 12:00")
    assert begun.cli("calendar", "close", "2026-07-07", "--reason", "black rainstorm").returncode == 0
    shown = begun.cli("calendar", "show", FEED).stdout
    assert "2026-07-06" in shown
    assert "2026-07-07 " not in shown.replace("2026-07-07 07", "")
    assert begun.cli("calendar", "reopen", "2026-07-07").returncode == 0
    assert begun.cli("calendar", "reopen", "2026-07-07").returncode == 1
    assert begun.cli("calendar", "clock").returncode == 0
    assert abs(freshness.now() - datetime.now(HONG_KONG)) < timedelta(minutes=1)
