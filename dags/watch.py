"""`watch`: raise alerts for what has broken or is well again, send what waits, write the status page, and ask for decisions.

It runs every ten minutes and after each release. What it does is what `sampan alerts send` and `sampan status-page` do; what
`sampan requests undecided` lists is asked once a day, each in a run of `decide`.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable, task
from sampan_airflow import DEFAULTS, FROM_NOW_ON, RELEASE, page_of


@task(
    multiple_outputs=False,
    doc_md=page_of(
        "Raises and sends alerts.",
        "no one hears of what is broken. Look at `sampan status` yourself, and"
        " at the log for what did not answer; `sampan alerts list` has what was not sent.",
    ),
)
def send_alerts() -> dict[str, int]:
    """Raise and send alerts. A message that a channel did not take is tried again by a later run."""
    from sampan.monitoring import send

    return send.run()


@task(
    doc_md=page_of(
        "Writes the status page and that of the gates.",
        "the pages are as old as they say. `sampan status` has what is true now; `sampan status-page` writes them.",
    ),
)
def status_page() -> str:
    """Write the status page, and return where it lies."""
    from sampan.monitoring import page

    return str(page.write())


@task(
    multiple_outputs=False,
    doc_md=page_of(
        "Finds what waits for a person's decision and was not asked today.",
        "Required Actions may lack what waits. Decide at the desk; `sampan requests undecided` lists it.",
    ),
)
def undecided(ti: Any) -> list[dict[str, Any]]:
    """What waits for a person's decision and was not asked today: the run of `decide` to start for each."""
    from sampan import requests

    waiting = {
        f"{item.key}__{ti.start_date:%F}": {"kind": item.kind, "subject": item.subject} for item in requests.undecided()
    }
    return [
        {"trigger_run_id": run_id, "conf": item}
        for run_id, item in waiting.items()
        if not ti.get_dr_count("decide", run_ids=[run_id])
    ]


with DAG(
    "watch",
    dag_display_name="Watch: alerts, status page, open decisions",
    description="Send alerts, write the status page, ask for decisions",
    doc_md=__doc__,
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("*/10 * * * *", timezone="Asia/Hong_Kong", run_immediately=FROM_NOW_ON),
        assets=[RELEASE],
    ),
    max_active_runs=1,
    tags={"monitoring"},
    default_args=DEFAULTS | {"owner": "Sampan"},
) as dag:
    send_alerts()
    TriggerDagRunOperator.partial(
        task_id="ask",
        trigger_dag_id="decide",
        skip_when_already_exists=True,
        doc_md=page_of("Asks for each decision in Required Actions.", "decide at the desk; the next run asks again."),
    ).expand_kwargs(undecided())
    status_page()
