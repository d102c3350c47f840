"""`maintain_retention`: delete what is past its contract's retention and prove it, then merge the leaves of closed months.

Each task is one function of the library, the same that `sampan retention run` and `sampan retention merge` call. A run that
was missed needs no catching up: the next one deletes all that is due.
"""

from __future__ import annotations

from airflow.sdk import DAG, CronTriggerTimetable, task
from sampan_airflow import DEFAULTS, FROM_NOW_ON, POOL


@task(pool=POOL, multiple_outputs=False)
def delete() -> dict[str, int]:
    """Delete what is past its retention; fails when something is still there afterwards."""
    from sampan.governance import retention

    return retention.run()


@task(pool=POOL, multiple_outputs=False)
def merge() -> dict[str, int]:
    """Merge the leaves of raw of every closed month into one each."""
    from sampan.governance import retention

    return retention.merge()


with DAG(
    "maintain_retention",
    description="Delete what is past its retention",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("30 2 * * *", timezone="Asia/Hong_Kong", run_immediately=FROM_NOW_ON),
    max_active_runs=1,
    tags={"maintenance"},
    default_args=DEFAULTS | {"owner": "Sampan"},
) as dag:
    delete() >> merge()
