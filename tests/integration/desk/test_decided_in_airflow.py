"""What Airflow shows to decide, and what becomes of a decision there: the library's part, which the DAG `decide` calls."""

from __future__ import annotations

import re

import pytest
from sampan import requests
from sampan.errors import PermanentFailure

from tests.integration.desk.test_operator import FEED, deliver_held

RUN = "batch-1__2026-07-06"


def decide(batch: int, accepted: bool, reason: str = "agreed by phone", run_id: str = RUN) -> None:
    requests.ask("batch", {"batch_id": batch, "feed": FEED}, accepted, reason, "mei", run_id)


def test_a_held_batch_waits_for_a_decision_until_there_is_one(partner):
    batch = deliver_held(partner)
    (item,) = requests.undecided()
    assert (item.key, item.kind, item.subject) == (f"batch-{batch}", "batch", {"batch_id": batch, "feed": FEED})
    assert FEED in item.title
    assert "rows" in item.text
    decide(batch, accepted=True)
    (ended,) = requests.run()
    assert (ended.state, ended.feed) == ("done", FEED), ended.outcome
    found = partner.sampan.batch(FEED)
    assert (found["state"], found["problem"]["accepted_by"]) == ("published", "mei")
    assert requests.undecided() == []


def test_airflow_shows_a_text_as_it_is():
    """Airflow reads Markdown there: a partner chose links and pictures of the page that decides."""
    text = "no column in sheet '[Accept](http://evil.example) ![x](/logout) <b>*x*</b>'"
    item = requests.Undecided("batch", {"batch_id": 1}, "Held", text)
    assert not re.search(r"(?<!\\)[\[\]()<>!:*_`]", item.markdown)
    assert item.markdown.replace("\\", "") == text


def test_a_task_that_is_run_again_asks_once_and_one_without_a_reason_asks_nothing(partner):
    batch = deliver_held(partner)
    with pytest.raises(PermanentFailure, match="reason"):
        decide(batch, accepted=False, reason=" \n")
    assert requests.requests() == []
    for _ in range(2):
        # A reason is kept for ever.
        decide(batch, accepted=False, reason="agreed with A123456(3)")
    assert [ended.state for ended in requests.run()] == ["done"]
    assert partner.sampan.rows("select rejected_by, rejected_because from ops.batch") == [("mei", "agreed with [HKID]")]


def test_a_decision_on_what_was_decided_elsewhere_meanwhile_changes_nothing(partner):
    batch = deliver_held(partner)
    decide(batch, accepted=True, run_id="the desk's")
    decide(batch, accepted=False)
    first, second = requests.run()
    assert (first.state, second.state) == ("done", "failed")
    assert "not held" in second.outcome
    assert partner.sampan.batch(FEED)["state"] == "published"


def test_a_login_of_the_database_cannot_ask_as_airflow(desks, partner):
    """Kind of fault: a check that is skipped for one kind of asker, whom another can claim to be."""
    batch = deliver_held(partner)
    steward = desks.client("steward_customs")
    steward.form(f"/en/held/{batch}", decision="accept", reason="mine")
    assert partner.sampan.rows("select from ops.request where requested_as = 'airflow'") == []
    with pytest.raises(Exception, match="permission denied"):
        partner.sampan.rows(
            "insert into ops.request (action, subject, reason, requested_by, requested_as, state)"
            " values ('accept_batch', '{}', 'x', 'x', 'airflow', 'waiting')",
            role="builder",
        )
