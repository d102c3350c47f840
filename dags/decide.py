"""`decide`: one run for each thing that waits for a person's decision, under Browse, Required Actions.

A held delivery, a critical finding in a mart, a proposed link between a name and an enterprise: `watch` starts a run for
each, once a day as long as it is open. Choose, and give a reason. The decision becomes a request with your name, as at the
desk, and the DAG `requests` carries it out; `sampan requests list` says what became of it. What has been decided elsewhere
meanwhile leaves the list within a minute.

Who may start runs in Airflow may also write their configuration and what a task returned (XCom). So the warehouse says what
a question is about, and the task that has Airflow's answer writes it down: no other one is told who decided.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import DAG, Param
from airflow.sdk.exceptions import AirflowSkipException, TaskAwaitingInput
from airflow.sdk.timezone import utcnow
from sampan_airflow import DEFAULTS, DecidedElsewhere, page_of

ACCEPT, REJECT, LATER = "Accept", "Reject", "Leave it open"


class DecideOperator(HITLOperator):  # type: ignore[misc]
    """Asks a person, writes the decision down as a request, and ends when somebody has decided elsewhere."""

    def execute(self, context: Any) -> None:
        """Ask, and wait in the triggerer: one that only waits for an answer would not hear of what is decided elsewhere."""
        from sampan import requests

        item = requests.find_undecided(context["params"]["kind"], context["params"]["subject"])
        if item is None:
            raise AirflowSkipException("it does not wait for a decision")
        self.subject, self.body = item.title, item.markdown
        try:
            super().execute(context)
        except TaskAwaitingInput:
            until = utcnow() + self.response_timeout
            trigger = DecidedElsewhere(str(context["task_instance"].id), item.key, self.defaults, until)
            self.defer(trigger=trigger, method_name="execute_complete")

    def execute_complete(self, context: Any, event: dict[str, Any]) -> None:
        """Ask for what was decided, in the name of who decided."""
        from sampan import requests

        answer = super().execute_complete(context, event)
        (chosen,) = answer["chosen_options"]
        if chosen == LATER:
            raise AirflowSkipException("it was left open, or decided elsewhere")
        params, by = context["params"], answer["responded_by_user"]["name"]
        reason = answer["params_input"]["reason"]
        requests.ask(params["kind"], params["subject"], chosen == ACCEPT, reason, by, context["dag_run"].run_id)


with DAG(
    "decide",
    dag_display_name="Decide: held deliveries, findings, proposed links",
    description="Held deliveries, findings and proposed links: accept or reject",
    doc_md=__doc__,
    schedule=None,
    # As many as may be asked in two days: each waits for its person.
    max_active_runs=120,
    tags={"requests"},
    default_args=DEFAULTS | {"owner": "Sampan"},
    params={
        "kind": Param("batch", enum=["batch", "finding", "proposal"]),
        "subject": Param({}, type="object"),
    },
) as dag:
    DecideOperator(
        task_id="decide",
        doc_md=page_of(
            "Asks a person, waits for the answer, and writes the decision down as a request.",
            "the log says what was missing, such as a reason: decide at the desk, or clear the task and answer again. As"
            " long as it is open, `watch` asks again the next day.",
        ),
        # Both are those of what waits, as the warehouse has it.
        subject="",
        options=[ACCEPT, REJECT, LATER],
        defaults=LATER,
        params={"reason": Param("", type="string", title="Reason", description="Kept with the decision.")},
        response_timeout=timedelta(days=1),
    )
