"""One DAG per contract, `ingest__<feed>`: it brings a partner's deliveries into `raw`.

A run processes all pending deliveries, however many days they cover, so a missed run needs no catch-up. Each task calls one
function of the library, the same that the `sampan` command calls.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from airflow.sdk import (
    DAG,
    AsyncCallback,
    DeadlineAlert,
    DeadlineReference,
    MultipleCronTriggerTimetable,
    Param,
    get_parsing_context,
    task,
)
from sampan.contracts.model import Contract
from sampan.contracts.registry import all_contracts, get_contract
from sampan.ingest.steps import STEPS
from sampan_airflow import DEFAULTS, FROM_NOW_ON, POOL, asset_of, page_of

# A step before may have held one delivery, or failed: the others go on. After a skipped one there is nothing to do.
AFTER_HELD = "none_skipped"
# What to do when a task is red: its page in Airflow, below what the task does.
WHEN_RED = {
    "fetch": "the partner's API or the object store did not answer, or refused. It is tried again. If it lasts, read"
    " `ops.feed_poll.problem` and write to the partner.",
    "land": "a file was refused, and the others went on. The log names file and reason. The partner delivers it again.",
    "load": "a delivery could not be read and is held, and the others went on. The log says why. The partner delivers it"
    " again; after a correction of the contract, run `sampan ingest <feed> --retry-held`.",
    "gate": "a delivery is held, and the others went on. The log names the rules. Accept or reject it at the desk, page"
    " *Held deliveries*, or wait for another delivery.",
    "publish": "its rows are not in `raw` yet, and nothing of them is lost. Clear the task, or run `sampan publish <feed>`.",
    "lake": "its rows are in `raw`, and the marts get them; the lake does not have them yet. Clear the task, or run"
    " `sampan lake sync <feed>`. What one run leaves undone the next one does.",
    "notify_owner": "a task before it was red, or a delivery was held or refused: its alert says which.",
}


def schedule_of(contract: Contract) -> MultipleCronTriggerTimetable:
    """When a delivery is due, and once more at its deadline for late deliveries.

    A weekly or monthly delivery that is not due on a business day comes on the next one, and an API may be unavailable on its
    day: such feeds are polled on every weekday, and an API until it has delivered for the week or month.
    """
    calendar = contract.calendar
    of_week = "1-5" if calendar.days in ("business", "weekly", "monthly") else "*"
    hour, minute = map(int, calendar.due.split(":"))
    due = hour * 60 + minute
    ticks = [due, (due + calendar.deadline_minutes) % 1440]
    crons = [f"{tick % 60} {tick // 60} * * {of_week}" for tick in ticks]
    return MultipleCronTriggerTimetable(*crons, timezone=calendar.timezone, run_immediately=FROM_NOW_ON)


def documentation_of(contract: Contract) -> str:
    """The DAG's page in Airflow, from the contract."""
    rows = [
        ("grain", contract.grain),
        ("key", ", ".join(contract.key)),
        ("owner", f"{contract.owner} ({contract.contact})"),
        ("due", f"{contract.calendar.days}, {contract.calendar.due} {contract.calendar.timezone}"),
        ("held above", f"{contract.budget:.0%} rejected rows"),
        ("kept", f"{contract.retention_days} days"),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"{contract.description}\n\n| | |\n|---|---|\n{table}\n\n{contract.limitations}\n"


def params_of(contract: Contract) -> dict[str, Param]:
    """Parameters of a manual run."""
    text = "Process only this business date."
    if contract.source.kind == "api":
        text += " The API is requested as of this date, or as of today without one."
    return {"date": Param(None, type=["null", "string"], format="date", description=text)}


def build_dag(contract: Contract) -> DAG:
    """The DAG of one feed: the steps of the ingest, then notify the owner, regardless of the outcome."""
    feed, minutes = contract.feed, contract.calendar.deadline_minutes
    deadline = DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(minutes=minutes),
        callback=AsyncCallback("sampan.alerts.deadline_missed", {"feed": feed, "minutes": minutes}),
    )
    with DAG(
        f"ingest__{feed}",
        dag_display_name=f"Ingest {feed}: {contract.title}",
        description=contract.title,
        doc_md=documentation_of(contract),
        schedule=schedule_of(contract),
        deadline=deadline,
        max_active_runs=1,
        tags={"ingest", contract.partner},
        owner_links={contract.owner: f"mailto:{contract.contact}"},
        default_args=DEFAULTS | {"owner": contract.owner},
        params=params_of(contract),
    ) as dag:
        make = {"fetch": fetch_task, "land": land_task, "publish": publish_task}
        tasks = {name: make.get(name, step_task)(name, feed) for name in STEPS}
        for name, step in STEPS.items():
            if step.after:
                tasks[step.after] >> tasks[name]
        tasks["lake"] >> notify_owner_task(feed)
    return dag


def options_of(name: str) -> dict[str, Any]:
    """Arguments of a step's task: its id, and the pool that limits how many tasks use the warehouse at once."""
    options = {"task_id": name, "multiple_outputs": False, "doc_md": page_of(STEPS[name].summary, WHEN_RED[name])}
    return options | {"pool": POOL} if STEPS[name].uses_warehouse else options


def step_task(name: str, feed: str) -> Any:
    """A task that runs one step for a feed. It fails when the step held a delivery; what goes on goes on after it."""

    @task(**options_of(name), trigger_rule=AFTER_HELD)
    def run(params: dict[str, Any], ti: Any) -> dict[str, int]:
        from sampan.ingest import ledger

        done = run_step(name, feed, params)
        if done.get("held"):
            ledger.require_none_held(feed, ti.start_date)
        return done

    return run()


def fetch_task(name: str, feed: str) -> Any:
    """The fetch task. A scheduled run requests an API only for what is owed; a manual run always requests it."""

    @task(**options_of(name))
    def fetch(params: dict[str, Any], dag_run: Any) -> dict[str, int]:
        return run_step(name, feed, params, only_owed=dag_run.run_type == "scheduled")

    return fetch()


def land_task(name: str, feed: str) -> Any:
    """The land task. It is skipped, and all steps after it, when nothing of the feed is on its way.

    It fails when it refused a delivery; the others go on.
    """

    @task(**options_of(name))
    def land(params: dict[str, Any], ti: Any) -> dict[str, int]:
        from airflow.sdk.exceptions import AirflowSkipException
        from sampan.ingest import ledger
        from sampan.ingest.publish import is_needed

        done = run_step(name, feed, params)
        if done["refused"]:
            ledger.require_none_held(feed, ti.start_date)
        if not is_needed(feed):
            raise AirflowSkipException("no delivery is waiting to be loaded, checked or published")
        return done

    return land()


def publish_task(name: str, feed: str) -> Any:
    """The publish task. Its asset event says how much it published; it is skipped, without one, when that is nothing."""

    @task(**options_of(name), outlets=[asset_of(feed)], trigger_rule=AFTER_HELD)
    def publish(params: dict[str, Any], dag_run: Any, outlet_events: Any) -> dict[str, int]:
        from airflow.sdk.exceptions import AirflowSkipException
        from sampan.ingest.publish import is_published_since

        done = run_step(name, feed, params)
        if not done["batches"] and not is_published_since(feed, dag_run.start_date):
            raise AirflowSkipException("there was no batch to publish")
        outlet_events[asset_of(feed)].extra = {count: done[count] for count in ("batches", "rows")}
        return done

    return publish()


def notify_owner_task(feed: str) -> Any:
    """The last task. It always runs, and fails when this run held or refused a delivery.

    The state of the last task is the state of the run, so it also fails when an earlier task did.
    """

    @task(
        task_id="notify_owner",
        trigger_rule="all_done",
        doc_md=page_of("Tell the owner of what was held or refused.", WHEN_RED["notify_owner"]),
    )
    def notify_owner(dag_run: Any, ti: Any) -> None:
        from airflow.sdk.exceptions import AirflowFailException
        from sampan.ingest import ledger

        ledger.notify_owner(feed, dag_run.start_date)
        states = ti.get_task_states(dag_run.dag_id, run_ids=[dag_run.run_id])[dag_run.run_id]
        failed = sorted(name for name, state in states.items() if state == "failed")
        if failed:
            raise AirflowFailException(f"these tasks failed, see their logs: {', '.join(failed)}")

    return notify_owner()


def run_step(name: str, feed: str, params: dict[str, Any], **options: Any) -> dict[str, int]:
    """Run a step of the library, for one business date if the run has one. Its log lines have the feed as a field."""
    from structlog.contextvars import bound_contextvars

    day = params.get("date")
    with bound_contextvars(feed=feed):
        return STEPS[name].run(feed, date.fromisoformat(day) if day else None, **options)


# A task needs no DAG and no contract but its own, and Airflow says which that is.
_feed = (get_parsing_context().dag_id or "").removeprefix("ingest__")
for _contract in [get_contract(_feed)] if _feed else all_contracts().values():
    globals()[f"ingest__{_contract.feed}"] = build_dag(_contract)
