"""`refresh_marts`: build the marts from what the feeds published, check them, release them and write the answers as pages.

Each feed that publishes asks for a run, and so does the clock every half hour. The first task waits while other
deliveries are arriving, so that those of one morning become one build and one release; when nothing new was published, or
more is due within half an hour, the run ends there. Then one task per step of the build, each a `dbt build` in the task's
own process, the gate, the release, and the pages of its answers, whose failure leaves the release as it is. Yesterday's
release stays live until the gate has passed. A family of marts that fails stops no other: the release has its marts of the
release before.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, AssetAny, AssetOrTimeSchedule, CronTriggerTimetable, chain, task
from airflow.sdk.exceptions import AirflowSkipException
from sampan.contracts.registry import feed_names
from sampan.marts import build
from sampan.marts.steps import Step, all_steps
from sampan_airflow import DEFAULTS, FROM_NOW_ON, POOL, RELEASE, RELEASED, asset_of, mart_asset, page_of

log = logging.getLogger(__name__)
# One family that is done is enough to go on; where all were skipped, what follows is skipped too.
WITHOUT_SOME = "all_done_min_one_success"
# What to do when a task is red: its page in Airflow, below what the task does.
WHEN_RED = {
    "await_ingest": "the warehouse did not answer. Readers keep what they have. Clear the task, or run `sampan refresh`.",
    "step": "nothing is released, and readers keep what they have. The log names the model or the test, and the batches that"
    " are new in its feeds. Withdraw the wrong batch (`sampan withdraw`) or correct the model, then run `sampan refresh`.",
    "family": "its marts stay those of the release before, marked as such, and the others go on. The log names the model or"
    " the test. Correct the cause, then run `sampan refresh --force`.",
    "gate": "a mart that others rest on broke a critical rule: nothing is released, and readers keep what they have. If the"
    " figures are wrong, withdraw the batch or correct the model; if they are right, accept the finding at the desk, page"
    " *Findings in marts*. Then run `sampan refresh --force`.",
    "release": "readers keep the release before, and the build waits. Clear the task, or run `sampan release run`.",
    "report": "readers have the release; the pages of the one before are still there. The log names the query that failed,"
    " or the object store. Correct it, then run `sampan report --force`.",
}


# It looks every few seconds for as long as a few tasks take: too short to be rescheduled or deferred.
@task.sensor(
    poke_interval=3,
    mode="poke",
    doc_md=page_of(
        "Waits while deliveries are arriving; skips the run when there is nothing to build.",
        WHEN_RED["await_ingest"],
    ),
)
def await_ingest(dag_run: Any) -> bool:
    """Wait while deliveries are arriving. Skips the run when there is nothing to build, or more is due soon.

    A run that a person started waits for nothing, but is skipped when there is nothing to build.
    """
    advice, why = build.advise(None if dag_run.run_type == "manual" else datetime.now(UTC) - dag_run.start_date)
    log.info("%s: %s", advice, why)
    if advice == build.Advice.SKIP:
        raise AirflowSkipException(why)
    return advice == build.Advice.BUILD


def build_step(step: Step) -> Any:
    """A task that runs one step of the build."""
    rule = WITHOUT_SOME if step.may_wait and not step.is_family else "all_success"

    page = page_of(f"Builds {step.name} with dbt.", WHEN_RED["family" if step.may_wait else "step"])

    @task(task_id=step.name, pool=POOL, multiple_outputs=False, trigger_rule=rule, doc_md=page)
    def run() -> dict[str, int]:
        return build.run(step.name)

    return run()


@task(
    pool=POOL,
    multiple_outputs=False,
    trigger_rule=WITHOUT_SOME,
    doc_md=page_of(
        "Checks the marts that were built. A family with a broken critical rule waits, and this task stays green:"
        " `sampan release findings` and the log say which.",
        WHEN_RED["gate"],
    ),
)
def gate() -> dict[str, int]:
    """Check the marts that were built. A family with a broken critical rule waits, and what others rest on fails the task."""
    from sampan.marts import release

    return release.gate()


@task(
    pool=POOL,
    multiple_outputs=False,
    outlets=[RELEASE, RELEASED],
    doc_md=page_of("Shows the checked marts to the readers, all at once.", WHEN_RED["release"]),
)
def release(outlet_events: Any) -> dict[str, int]:
    """Show the checked marts to the readers, all at once. Events say how many rows each mart has that is new."""
    from sampan.marts import release as step

    done = step.run()
    outlet_events[RELEASE].extra = done
    for mart, rows in step.new_marts(done["release_no"]).items():
        outlet_events[RELEASED].add(mart_asset(mart), extra={"release_no": done["release_no"], "rows": rows})
    return done


@task(
    pool=POOL,
    multiple_outputs=False,
    doc_md=page_of("Writes the answers of the release as pages.", WHEN_RED["report"]),
)
def report() -> str:
    """Write the answers of the release as pages. The release stays when this fails: run `sampan report` again."""
    from sampan.report import make

    made = make.run()
    log.info("release %s: %s files in %.1f s, %s", made.release_no, made.files, made.seconds, made.path)
    return str(made.path)


with DAG(
    "refresh_marts",
    dag_display_name="Refresh the marts: build, check, release",
    description="Build, check and release the marts",
    doc_md=__doc__,
    # Batches that are published during a run are taken in by the next one.
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("*/30 * * * *", timezone="Asia/Hong_Kong", run_immediately=FROM_NOW_ON),
        assets=AssetAny(*map(asset_of, feed_names())),
    ),
    max_active_runs=1,
    tags={"marts"},
    default_args=DEFAULTS | {"owner": "Sampan"},
) as dag:
    families = [step for step in all_steps() if step.is_family]
    at = all_steps().index(families[0])
    before, after = all_steps()[:at], all_steps()[at + len(families) :]
    tasks, checked = list(map(build_step, families)), gate()
    chain(await_ingest(), *map(build_step, before), tasks, *map(build_step, after), checked, release(), report())
    tasks >> checked
