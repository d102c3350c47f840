"""One DAG per contract, `ingest__<feed>`: a partner's deliveries on their way into `raw`.

A run handles whatever waits, however many days that is, so a run that was missed needs no catching up. Each task is one
function of the library, the same that the `sampan` command calls.
"""

from __future__ import annotations

from datetime import date, timedelta
from importlib import import_module
from typing import Any

from airflow.sdk import DAG, AsyncCallback, DeadlineAlert, DeadlineReference, MultipleCronTriggerTimetable, Param, task
from sampan.contracts.model import Contract
from sampan.contracts.registry import all_contracts
from sampan_airflow import DEFAULTS, FROM_NOW_ON, POOL, asset_of


def schedule_of(contract: Contract) -> MultipleCronTriggerTimetable:
    """When a delivery is due, and once more at its deadline for those that come late.

    A weekly or monthly delivery whose day is no business day comes on the next one, and an API may be away on its day: such
    feeds are looked at on every weekday, and an API is asked until it has answered for its week or month.
    """
    calendar = contract.calendar
    of_week = "1-5" if calendar.days in ("business", "weekly", "monthly") else "*"
    hour, minute = map(int, calendar.due.split(":"))
    due = hour * 60 + minute
    ticks = [due, (due + calendar.deadline_minutes) % 1440]
    crons = [f"{tick % 60} {tick // 60} * * {of_week}" for tick in ticks]
    return MultipleCronTriggerTimetable(*crons, timezone=calendar.timezone, run_immediately=FROM_NOW_ON)


def documentation_of(contract: Contract) -> str:
    """What a person who opens the DAG should know, from the contract alone."""
    rows = [
        ("grain", contract.grain),
        ("key", ", ".join(contract.key)),
        ("from", f"{contract.owner} ({contract.contact})"),
        ("due", f"{contract.calendar.days}, {contract.calendar.due} {contract.calendar.timezone}"),
        ("held above", f"{contract.budget:.0%} rejected rows"),
        ("kept", f"{contract.retention_days} days"),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"{contract.description}\n\n| | |\n|---|---|\n{table}\n\n{contract.limitations}\n"


def params_of(contract: Contract) -> dict[str, Param]:
    """What a person may ask of one run."""
    text = "One business date only"
    if contract.source.kind == "api":
        text += ", of which the API is asked; it is asked as of today without one"
    return {"date": Param(None, type=["null", "string"], format="date", description=f"{text}.")}


def build_dag(contract: Contract) -> DAG:
    """The DAG of one feed: fetch, land, load, gate, publish, and word to the owner whatever came of them."""
    feed, minutes = contract.feed, contract.calendar.deadline_minutes
    deadline = DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(minutes=minutes),
        callback=AsyncCallback("sampan.alerts.deadline_missed", {"feed": feed, "minutes": minutes}),
    )
    with DAG(
        f"ingest__{feed}",
        description=contract.title,
        doc_md=documentation_of(contract),
        schedule=schedule_of(contract),
        deadline=deadline,
        max_active_runs=1,
        tags={"ingest", contract.partner},
        default_args=DEFAULTS | {"owner": contract.owner},
        params=params_of(contract),
    ) as dag:
        fetch, land = fetch_step(feed), step("land", feed)
        load, gate = step("load", feed, pool=POOL), step("gate", feed, pool=POOL)
        publish = publish_step(feed, pool=POOL, outlets=[asset_of(feed)])
        fetch >> land >> load >> gate >> publish >> tell_owner_step(feed)
    return dag


def step(name: str, feed: str, **options: Any) -> Any:
    """A task that calls `sampan.<name>.run` for a feed."""

    @task(task_id=name, multiple_outputs=False, **options)
    def run(params: dict[str, Any]) -> dict[str, int]:
        return run_step(name, feed, params)

    return run()


def fetch_step(feed: str) -> Any:
    """The task that fetches. The schedule asks an API for what it owes; a person who starts a run asks in any case."""

    @task(task_id="fetch", multiple_outputs=False)
    def fetch(params: dict[str, Any], dag_run: Any) -> dict[str, int]:
        return run_step("fetch", feed, params, only_owed=dag_run.run_type == "scheduled")

    return fetch()


def publish_step(feed: str, **options: Any) -> Any:
    """The task that publishes; skipped when its run published nothing, so that no asset event goes out."""

    @task(task_id="publish", multiple_outputs=False, **options)
    def publish(params: dict[str, Any], dag_run: Any) -> dict[str, int]:
        from airflow.sdk.exceptions import AirflowSkipException
        from sampan.ingest.publish import is_published_since

        done = run_step("publish", feed, params)
        if not done["batches"] and not is_published_since(feed, dag_run.start_date):
            raise AirflowSkipException("no batch was waiting to be published")
        return done

    return publish()


def tell_owner_step(feed: str) -> Any:
    """The last task, which runs whatever became of the others, and fails when this run held or refused a delivery.

    The last task decides what the run is: so it also fails when an earlier one did, which it would hide otherwise.
    """

    @task(task_id="tell_owner", retries=0, trigger_rule="all_done")
    def tell_owner(dag_run: Any, ti: Any) -> None:
        from airflow.sdk.exceptions import AirflowFailException
        from sampan.ingest import ledger

        ledger.tell_owner(feed, dag_run.start_date)
        states = ti.get_task_states(dag_run.dag_id, run_ids=[dag_run.run_id])[dag_run.run_id]
        failed = sorted(name for name, state in states.items() if state == "failed")
        if failed:
            raise AirflowFailException(f"failed: {', '.join(failed)}; its log says why")

    return tell_owner()


def run_step(name: str, feed: str, params: dict[str, Any], **options: Any) -> dict[str, int]:
    """Call a step of the library, for one business date when the run asks for one."""
    day = params.get("date")
    return import_module(f"sampan.ingest.{name}").run(feed, date.fromisoformat(day) if day else None, **options)


for _contract in all_contracts().values():
    globals()[f"ingest__{_contract.feed}"] = build_dag(_contract)
