"""`maintain_retention`: delete data past its retention, verify it, then compact the partitions of closed months. Beside that,
bring the lake to what the ledger says.

Each task calls one function of the library, the same that `sampan retention run`, `sampan partitions compact` and `sampan
lake sync` call. A missed run needs no catch-up: the next one deletes everything that is due.
"""

from __future__ import annotations

from airflow.sdk import DAG, CronTriggerTimetable, task
from sampan_airflow import DEFAULTS, FROM_NOW_ON, POOL, page_of


@task(
    pool=POOL,
    multiple_outputs=False,
    doc_md=page_of(
        "Deletes data past its retention; fails if some of it is still found afterwards.",
        "the log says"
        " what is still found, or which contract would delete most of its feed. Correct a mistyped retention, or run `sampan"
        " retention run` again (`--allow-mass-delete` when it is right).",
    ),
)
def delete() -> dict[str, int]:
    """Delete data past its retention; fails if some of it is still found afterwards."""
    from sampan.governance import retention

    return retention.run()


@task(
    pool=POOL,
    multiple_outputs=False,
    doc_md=page_of(
        "Merges the partitions of raw of every closed month into one each.",
        "nothing is lost, and queries are a little slower. Clear the task, or run `sampan partitions compact`.",
    ),
)
def compact() -> dict[str, int]:
    """Merge the partitions of raw of every closed month into one each."""
    from sampan.governance import compaction

    return compaction.compact()


@task(
    pool=POOL,
    multiple_outputs=False,
    doc_md=page_of(
        "Writes what the lake lacks of raw, and removes what is not in raw.",
        "raw and the marts are whole; only the lake is behind. The log names batch and reason. Run `sampan lake sync`.",
    ),
)
def sync_lake() -> dict[str, int]:
    """Write what the lake lacks of raw, and remove what is not in raw."""
    from sampan.contracts.registry import feed_names
    from sampan.ingest import lake

    return lake.sync(feed_names())


with DAG(
    "maintain_retention",
    dag_display_name="Delete what is past its retention",
    description="Delete data past its retention",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("30 2 * * *", timezone="Asia/Hong_Kong", run_immediately=FROM_NOW_ON),
    max_active_runs=1,
    tags={"maintenance"},
    default_args=DEFAULTS | {"owner": "Sampan"},
) as dag:
    delete() >> compact()
    sync_lake()
