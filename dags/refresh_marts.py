"""`refresh_marts`: from what the feeds published to a released set of marts.

One task per step of the build, each a `dbt build` in the task's own process, then the gate, then the release.
Yesterday's release stays up until the gate has passed; with nothing new to take in, nothing runs.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, AssetAny, AssetOrTimeSchedule, CronTriggerTimetable, chain, task
from airflow.sdk.exceptions import AirflowSkipException
from sampan.contracts.registry import all_contracts
from sampan.marts import build
from sampan_airflow import DEFAULTS, FROM_NOW_ON, POOL, asset_of


def build_step(name: str) -> Any:
    """A task that calls `sampan.marts.build.run` for one step; the first skips all when no batch waits for a build."""

    @task(task_id=name, pool=POOL, multiple_outputs=False)
    def run() -> dict[str, int]:
        done = build.run(name)
        if name == build.steps()[0] and not done["batches"]:
            raise AirflowSkipException("no published batch waits for a build")
        return done

    return run()


@task(pool=POOL, multiple_outputs=False)
def gate() -> dict[str, int]:
    """Check the marts that were built; a critical finding fails here and keeps the release that is up."""
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
    # Whatever was published while a run went on is taken in by the next one.
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("0 9 * * *", timezone="Asia/Hong_Kong", run_immediately=FROM_NOW_ON),
        assets=AssetAny(*(asset_of(feed) for feed in sorted(all_contracts()))),
    ),
    max_active_runs=1,
    tags={"marts"},
    default_args=DEFAULTS | {"owner": "Sampan"},
) as dag:
    families = [name for name in build.steps() if name.startswith(f"{build.MARTS}__")]
    at = build.steps().index(families[0])
    before, after = build.steps()[:at], build.steps()[at + len(families) :]
    chain(*map(build_step, before), [build_step(name) for name in families], *map(build_step, after), gate(), release())
