"""What Airflow shows to decide, and what becomes of a decision there: the library's part, which the DAG `decide` calls."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from sampan import requests
from sampan.errors import PermanentFailure, TransientFailure

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
    theirs, means = item.markdown.split("\n\n")
    assert not re.search(r"(?<!\\)[\[\]()<>!:*_`]", theirs)
    assert theirs.replace("\\", "") == text
    assert means == requests.MEANS["batch"]


def test_a_question_in_airflow_says_which_file_it_is_about_and_what_each_answer_does(partner):
    """Kind of fault: who decides sees what is wrong, and neither of what nor what follows."""
    deliver_held(partner)
    (item,) = requests.undecided()
    assert item.text.startswith("delivery.csv")
    assert "rows" in item.text
    assert all(word in means for word in ("**Accept**", "**Reject**") for means in requests.MEANS.values())


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


class Asked:
    """What Airflow keeps of a question: the answer, once there is one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, key: str, minutes: int = 5) -> None:
        # Here, since every worker reads this file: Airflow takes two seconds.
        import sampan_airflow
        from airflow.sdk.execution_time import hitl

        self.answer: dict[str, Any] = {"response_received": False, "responded_by_user": None}
        monkeypatch.setattr(hitl, "get_hitl_detail_content_detail", lambda _: SimpleNamespace(**self.answer))
        monkeypatch.setattr(hitl, "update_hitl_detail_response", self.update)
        monkeypatch.setattr(sampan_airflow, "LOOK", 0.05)
        until = datetime.now(UTC) + timedelta(minutes=minutes)
        self.trigger = sampan_airflow.DecidedElsewhere(str(uuid4()), key, ["Leave it open"], until)

    def update(self, _: Any, chosen: list[str], params: dict[str, Any]) -> SimpleNamespace:
        self.answer |= {"response_received": True, "chosen_options": chosen, "params_input": params, "responded_at": 1}
        return SimpleNamespace(**self.answer)

    async def ends(self, seconds: float) -> dict[str, Any] | None:
        """The event, or None while the question is open."""
        with contextlib.suppress(TimeoutError):
            event = await asyncio.wait_for(anext(self.trigger.run()), seconds)
            payload: dict[str, Any] = event.payload
            return payload
        return None


def test_a_question_leaves_the_list_when_it_is_decided_elsewhere(partner, monkeypatch):
    asked = Asked(monkeypatch, f"batch-{deliver_held(partner)}")
    assert asyncio.run(asked.ends(0.5)) is None
    decide(int(asked.trigger.key.removeprefix("batch-")), accepted=False)
    assert asyncio.run(asked.ends(0.5)) is None, "it is asked for, and not carried out yet"
    assert requests.open_keys() == {item.key for item in requests.undecided()} == {asked.trigger.key}
    assert [ended.state for ended in requests.run()] == ["done"]
    ended = asyncio.run(asked.ends(10))
    assert ended is not None
    assert (ended["chosen_options"], ended["responded_by_user"]) == (["Leave it open"], None)
    assert asked.answer["response_received"]


@pytest.mark.parametrize("error", [TransientFailure("away"), AttributeError("a module of before an upgrade")])
def test_a_question_stays_when_it_cannot_be_looked_for_and_ends_with_its_day(partner, monkeypatch, error):
    """Kind of fault: what cannot be looked up counts as gone, or a failure takes the question off the list."""

    def away() -> frozenset[str]:
        raise error

    monkeypatch.setattr(requests, "open_keys", away)
    assert asyncio.run(Asked(monkeypatch, "batch-1").ends(0.5)) is None
    assert asyncio.run(Asked(monkeypatch, "batch-1", minutes=-1).ends(10)) is not None


def test_an_answer_that_a_person_gave_a_moment_before_is_kept(partner, monkeypatch):
    asked = Asked(monkeypatch, "batch-0")
    asked.update(None, ["Accept"], {"reason": "agreed"})
    asked.answer["responded_by_user"] = SimpleNamespace(id="1", name="mei")
    ended = asyncio.run(asked.ends(10))
    assert ended is not None
    assert (ended["chosen_options"], ended["params_input"]) == (["Accept"], {"reason": "agreed"})
    assert ended["responded_by_user"] == {"id": "1", "name": "mei"}


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


@pytest.fixture
def dag():
    """The DAG `decide`, without Airflow."""
    file = Path(__file__).resolve().parents[3] / "dags" / "decide.py"
    spec = importlib.util.spec_from_file_location("dag_decide", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.dag


def context_of(batch: int, **conf: Any) -> dict[str, Any]:
    params = {"kind": "batch", "subject": {"batch_id": batch, "feed": FEED}, **conf}
    return {"params": params, "task_instance": SimpleNamespace(id=uuid4()), "dag_run": SimpleNamespace(run_id=RUN)}


def test_a_run_that_a_person_started_cannot_ask_one_thing_and_mean_another(partner, monkeypatch, dag):
    """Kind of fault: who may start a run writes its configuration, and another person decides by what it says."""
    from airflow.providers.standard.operators import hitl
    from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred

    shown: list[dict[str, Any]] = []
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **question: shown.append(question))
    batch, task = deliver_held(partner), dag.get_task("decide")
    context = context_of(batch, title="Held: hk_public_holidays for 2026-07-06", text="holidays.csv: harmless")
    task.render_template_fields(context)
    with pytest.raises(TaskDeferred):
        task.execute(context)
    (item,) = requests.undecided()
    assert [(one["subject"], one["body"]) for one in shown] == [(item.title, item.markdown)]
    for other in (context_of(batch + 1), context_of(batch, kind="finding")):
        with pytest.raises(AirflowSkipException):
            task.execute(other)
    assert len(shown) == 1


def test_who_decided_is_who_answered_and_no_task_believes_what_another_one_returned(partner, dag):
    """Kind of fault: who may start runs writes what a task returned (XCom), and decides in another person's name."""
    from airflow.sdk.exceptions import AirflowSkipException

    (task,) = dag.tasks
    batch, at = deliver_held(partner), datetime.now(UTC)
    answer = {"params_input": {"reason": "agreed"}, "responded_at": at, "responded_by_user": {"id": "1", "name": "mei"}}
    with pytest.raises(AirflowSkipException):
        task.execute_complete(context_of(batch), answer | {"chosen_options": ["Leave it open"]})
    assert requests.requests() == []
    task.execute_complete(context_of(batch), answer | {"chosen_options": ["Reject"]})
    assert [ended.state for ended in requests.run()] == ["done"]
    assert partner.sampan.rows("select rejected_by, rejected_because from ops.batch") == [("mei", "agreed")]
