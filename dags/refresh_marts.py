"""`refresh_marts`: build the marts from what the feeds published, check them and release them.

One task per step of the build, each a `dbt build` in the task's own process, then the gate, then the release.
Yesterday's release stays live until the gate has passed. When nothing new was published, nothing runs. A family of marts
that fails stops no other: the release has its marts of the release before.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, AssetAny, AssetOrTimeSchedule, CronTriggerTimetable, chain, task
from airflow.sdk.exceptions import AirflowSkipException
from sampan.contracts.registry import all_contracts
from sampan.marts import build
from sampan.marts.steps import Step, all_steps
from sampan_airflow import DEFAULTS, FROM_NOW_ON, POOL, asset_of

# One family that is done is enough to go on; where all were skipped, what follows is skipped too.
WITHOUT_SOME = "all_done_min_one_success"


def build_step(step: Step) -> Any:
    """A task that runs one step of the build; the first one skips all others when no batch is waiting."""
    rule = WITHOUT_SOME if step.may_wait and not step.is_family else "all_success"

    @task(task_id=step.name, pool=POOL, multiple_outputs=False, trigger_rule=rule)
    def run() -> dict[str, int]:
        done = build.run(step.name)
        if step == all_steps()[0] and not done["batches"]:
            raise AirflowSkipException("no published batch is waiting for a build")
        return done

    return run()


@task(pool=POOL, multiple_outputs=False, trigger_rule=WITHOUT_SOME)
def gate() -> dict[str, int]:
    """Check the marts that were built. A family with a broken critical rule waits, and what others rest on fails the task."""
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
    tasks, checked = list(map(build_step, families)), gate()
    chain(*map(build_step, before), tasks, *map(build_step, after), checked, release())
    tasks >> checked
