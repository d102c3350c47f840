"""What is broken now: the same for the command, the status page and the metrics."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sampan.calendar import HONG_KONG
from sampan.contracts.registry import get_contract
from sampan.errors import PermanentFailure, TransientFailure
from sampan.ingest import freshness
from sampan.monitoring import broken, metrics, page
from starlette.testclient import TestClient

from tests.factory import DAY, encode, rows

FEED = "customs_declarations"


def at(day: int, hour: int = 12) -> datetime:
    return datetime(2026, 7, day, hour, tzinfo=HONG_KONG)


def of(feed: str, moment: datetime) -> list[tuple[str, str | None, int]]:
    return [(fault.code, fault.dates, fault.count) for fault in broken.now(moment) if fault.subject == feed]


def test_late_days_in_a_row_are_one_fault_and_a_day_that_came_parts_them(partner):
    """Monday 6, Wednesday 8 come; of 7, 9 and 10 July nothing. On Monday 13 at noon 10 July, a Friday, is late too."""
    for day in (DAY, DAY + timedelta(days=2)):
        partner.hands_over(FEED, day, rows(FEED, 3, day))
    partner.ingest(FEED)
    freshness.record_poll(FEED, at=at(13))
    assert of(FEED, at(13)) == [
        ("late_at_partner", "2026-07-09 to 2026-07-10", 2),
        ("late_at_partner", "2026-07-07", 1),
    ]
    (newest, _) = [fault for fault in broken.now(at(13)) if fault.subject == FEED]
    due = get_contract(FEED).calendar.due
    assert f"{newest.since:%F %R}" == f"2026-07-10 {due}"
    assert newest.why == f"was due at 2026-07-10 {due}; nothing has come"


def test_a_held_delivery_is_broken_until_another_of_its_date_is_published(partner):
    body = encode(get_contract(FEED), rows(FEED, 40))
    partner.puts(FEED, DAY, "cut.csv.gz", body[: len(body) // 2])
    partner.ingest(FEED)
    (fault,) = [fault for fault in broken.now(at(7)) if fault.subject == FEED]
    assert (fault.code, fault.dates, fault.batch_id) == ("held", str(DAY), partner.sampan.batch(FEED)["batch_id"])
    assert "[delivery.truncated]" in fault.why
    partner.sampan.rows("update ops.batch set received_at = received_at - interval '1 minute' returning 1")
    partner.puts(FEED, DAY, "whole.csv.gz", body)
    partner.ingest(FEED)
    assert of(FEED, at(7)) == []


def test_a_build_that_failed_is_broken_until_the_next_one(sampan):
    problem = '{"rule": "build.failed", "message": "step staging failed"}'
    new = (
        "insert into ops.build (state, as_of_date, ended_at, problem) values (%s, '2026-07-06', now(), %s) returning 1"
    )
    sampan.rows(new, "failed", problem, role="builder")
    (fault,) = [fault for fault in broken.now(at(6)) if fault.subject == "build"]
    assert (fault.code, fault.why) == ("failed", "step staging failed [build.failed]")
    sampan.rows(new, "released", None, role="builder")
    assert of("build", at(6)) == []


def test_the_page_says_what_is_broken_since_when_in_two_languages_and_obeys_no_name(partner, tmp_path):
    """Kind of fault: text of a partner becomes part of a page."""
    freshness.set_clock(at(7))
    partner.puts(FEED, DAY, "<script>alert(1).csv.gz", b"not gzip at all")
    partner.hands_over("business_register", DAY, rows("business_register", 3))
    partner.ingest(FEED)
    partner.ingest("business_register")
    text = page.write(tmp_path / "new" / "index.html").read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    since = partner.sampan.batch(FEED)["received_at"].astimezone(HONG_KONG)
    for part in ("held by the gate", "檢查後暫扣", get_contract(FEED).owner, f"{since:%F %R}", "2026-07-07 12:00"):
        assert part in text
    assert "http://" not in text
    assert "https://" not in text
    assert "<span>business_register</span>" in text
    with pytest.raises(PermanentFailure, match=r"status\.page"):
        page.write(tmp_path / "new" / "index.html" / "below")


def test_the_page_says_that_nothing_is_broken(sampan):
    freshness.set_clock(datetime(2020, 1, 1, tzinfo=HONG_KONG))
    assert "Nothing is broken." in page.render()


def test_metrics_are_what_the_ledger_says(partner):
    freshness.set_clock(at(7))
    given = rows(FEED, 40)
    given[0]["value_hkd"] = "-1"
    partner.hands_over(FEED, DAY, given)
    partner.puts(FEED, DAY + timedelta(days=1), "cut.csv.gz", b"not gzip at all")
    partner.ingest(FEED)
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.text())
        for sample in family.samples
    }

    def value(name: str, **labels: str) -> float:
        return found[(f"sampan_{name}", *sorted(labels.items()))]

    assert value("rows", feed=FEED, outcome="published") == 39
    assert value("rows", feed=FEED, outcome="quarantined") == 1
    assert value("batches", feed=FEED, state="held") == 1
    assert value("faults", subject=FEED, state="held") == 1
    assert value("faults", subject="business_register", state="held") == 0
    assert value("quarantine_open_rows", feed=FEED) == 1
    assert value("batches_waiting_for_build") == 1


def test_the_endpoint_answers_who_brings_the_token_and_nobody_else(sampan):
    token = "a-token-of-the-monitoring"
    client = TestClient(metrics.endpoint(token))
    for header in (
        {},
        {"authorization": "Bearer "},
        {"authorization": f"Basic {token}"},
        {"authorization": "Bearer é".encode()},
    ):
        answer = client.get("/metrics", headers=header)
        assert (answer.status_code, answer.text) == (401, "no\n")
    answer = client.get("/metrics", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "sampan_faults" in {family.name for family in text_string_to_metric_families(answer.text)}
    assert client.get("/").status_code == 404


def test_the_endpoint_asks_the_warehouse_once_for_many_and_says_nothing_of_it_when_it_is_away(monkeypatch):
    asked = []

    def read() -> str:
        asked.append(1)
        if len(asked) > 1:
            raise TransientFailure("cannot reach 10.1.2.3 as sampan_builder")
        return "x 1\n"

    client = TestClient(metrics.endpoint("t" * 16, read), headers={"authorization": f"Bearer {'t' * 16}"})
    assert [client.get("/metrics").text for _ in range(5)] == ["x 1\n"] * 5
    assert len(asked) == 1
    monkeypatch.setattr(metrics, "FRESH", 0)
    monkeypatch.setattr(metrics.time, "monotonic", lambda: float("inf"))
    answer = client.get("/metrics")
    assert (answer.status_code, "10.1.2.3" in answer.text) == (503, False)


@pytest.mark.parametrize(("token", "code"), [("", 1), ("short", 1)])
def test_metrics_are_served_to_nobody_without_a_token(sampan, token, code):
    done = sampan.cli("metrics", "--listen", "127.0.0.1:0", SAMPAN_METRICS_TOKEN=token)
    assert (done.returncode, "SAMPAN_METRICS_TOKEN" in done.stderr) == (code, True)
