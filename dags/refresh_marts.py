"""`refresh_marts`: build the marts from what the feeds published, check them and release them.

One task per step of the build, each a `dbt build` in the task's own process, then the gate, then the release.
Yesterday's release stays live until the gate has passed. When nothing new was published, nothing runs.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, AssetAny, AssetOrTimeSchedule, CronTriggerTimetable, chain, task
from airflow.sdk.exceptions import AirflowSkipException
from sampan.contracts.registry import all_contracts
from sampan.marts import build
from sampan.marts.steps import Step, all_steps
from sampan_airflow import DEFAULTS, FROM_NOW_ON, POOL, asset_of


def build_step(step: Step) -> Any:
    """A task that runs one step of the build; the first one skips all others when no batch is waiting."""

    @task(task_id=step.name, pool=POOL, multiple_outputs=False)
    def run() -> dict[str, int]:
        done = build.run(step.name)
        if step == all_steps()[0] and not done["batches"]:
            raise AirflowSkipException("no published batch is waiting for a build")
        return done

    return run()


@task(pool=POOL, multiple_outputs=False)
def gate() -> dict[str, int]:
    """Check the marts that were built. A broken critical rule fails this task, and the live release stays."""
    from sampan.marts import release

    return release.gate()


@task(pool=POOL, multiple_outputs=False)
def release() -> dict[str, int]:
    """Show the checked marts to the readers, all at once."""
    from sampan.marts import release as step

    return step.run()


with DAG(
    "refresh_marts",
    description="Build, check and release the marts",
    doc_md=__doc__,
    # Batches that are published during a run are taken in by the next one.
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("0 9 * * *", timezone="Asia/Hong_Kong", run_immediately=FROM_NOW_ON),
        assets=AssetAny(*(asset_of(feed) for feed in sorted(all_contracts()))),
    ),
    max_active_runs=1,
    tags={"marts"},
    default_args=DEFAULTS | {"owner": "Sampan"},
) as dag:
    families = [step for step in all_steps() if step.is_family]
    at = all_steps().index(families[0])
    before, after = all_steps()[:at], all_steps()[at + len(families) :]
    chain(*map(build_step, before), list(map(build_step, families)), *map(build_step, after), gate(), release())
