"""`decide`: one run for each thing that waits for a person's decision, under Browse, Required Actions.

A held delivery, a critical finding in a mart, a proposed link between a name and an enterprise: `watch` starts a run for
each, once a day as long as it is open. Choose, and give a reason. The decision becomes a request with your name, as at the
desk, and the DAG `requests` carries it out; `sampan requests list` says what became of it. What has been decided elsewhere
meanwhile leaves the list within a minute.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import DAG, Param, task
from airflow.sdk.exceptions import TaskAwaitingInput
from airflow.sdk.timezone import utcnow
from sampan_airflow import DEFAULTS, DecidedElsewhere, page_of

ACCEPT, REJECT, LATER = "Accept", "Reject", "Leave it open"


class DecideOperator(HITLOperator):  # type: ignore[misc]
    """Asks a person, and ends when somebody has decided elsewhere."""

    def execute(self, context: Any) -> None:
        """Ask, and wait in the triggerer: one that only waits for an answer would not hear of what is decided elsewhere."""
        from sampan import requests

        try:
            super().execute(context)
        except TaskAwaitingInput:
            key = requests.key_of(context["params"]["kind"], context["params"]["subject"])
            until = utcnow() + self.response_timeout
            trigger = DecidedElsewhere(str(context["task_instance"].id), key, self.defaults, until)
            self.defer(trigger=trigger, method_name="execute_complete")


@task(doc_md=page_of("Writes the decision down as a request.", "the log says what was missing; clear both tasks."))
def ask(answer: dict[str, Any], params: dict[str, Any], dag_run: Any) -> None:
    """Ask for what was decided, in the name of who decided."""
    from airflow.sdk.exceptions import AirflowSkipException
    from sampan import requests

    (chosen,) = answer["chosen_options"]
    if chosen == LATER:
        raise AirflowSkipException("it was left open, or decided elsewhere")
    reason, by = answer["params_input"]["reason"], answer["responded_by_user"]["name"]
    requests.ask(params["kind"], params["subject"], chosen == ACCEPT, reason, by, dag_run.run_id)


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
        "title": Param("", type="string"),
        "text": Param("", type="string"),
    },
) as dag:
    decide = DecideOperator(
        task_id="decide",
        doc_md=page_of(
            "Asks a person, and waits for the answer.",
            "no one has decided. Decide at the desk; as long as it is open, `watch` asks again the next day.",
        ),
        subject="{{ params.title }}",
        body="{{ params.text }}",
        options=[ACCEPT, REJECT, LATER],
        defaults=LATER,
        params={"reason": Param("", type="string", title="Reason", description="Kept with the decision.")},
        response_timeout=timedelta(days=1),
    )
    ask(decide.output)
