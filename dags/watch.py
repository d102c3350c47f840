"""`watch`: raise alerts for what has broken or is well again, send what waits, and write the status page.

It runs every ten minutes and after each release. What it does is what `sampan alerts send` and `sampan status-page` do.
"""

from __future__ import annotations

from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable, task
from sampan_airflow import DEFAULTS, FROM_NOW_ON, RELEASE


@task(multiple_outputs=False)
def send_alerts() -> dict[str, int]:
    """Raise and send alerts. A message that a channel did not take is tried again by a later run."""
    from sampan.monitoring import send

    return send.run()


@task
def status_page() -> str:
    """Write the status page, and return where it lies."""
    from sampan.monitoring import page

    return str(page.write())


with DAG(
    "watch",
    description="Send alerts, write the status page",
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
    status_page()
