"""`requests`: carry out what people asked for at the desks, in their names, as soon as they ask.

A trigger looks into the warehouse every two seconds; every ten minutes a run looks for what it may have missed. The task
does what `sampan requests run` does. Feeds whose rows were published get an event, so that the marts are refreshed.
**When red:** the log names the request. It waits, and the next run tries it again: run `sampan requests list` to see what is
waiting. A request that cannot be carried out is not red: the person who asked reads why at the desk.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable, task
from sampan_airflow import DEFAULTS, FROM_NOW_ON, POOL, PUBLISHED_BY_REQUEST, asset_of, page_of, requests_asset

log = logging.getLogger(__name__)


@task(
    pool=POOL,
    multiple_outputs=False,
    outlets=[PUBLISHED_BY_REQUEST],
    doc_md=page_of(
        "Carries out what waits, in the names of those who asked.",
        "the log names the request. It waits, and the next run tries it again: `sampan requests list` has what waits.",
    ),
)
def carry_out(outlet_events: Any) -> dict[str, str]:
    """Carry out what waits. Returns what became of each request, by its number."""
    from sampan import requests

    ended = requests.run()
    for feed in sorted({one.feed for one in ended if one.feed and one.state == "done"}):
        outlet_events[PUBLISHED_BY_REQUEST].add(asset_of(feed))
    return {str(one.request_id): one.state for one in ended}


with DAG(
    "requests",
    dag_display_name="Carry out requests of the desks",
    description="Carry out what people asked for at the desks",
    doc_md=__doc__,
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("*/10 * * * *", timezone="Asia/Hong_Kong", run_immediately=FROM_NOW_ON),
        assets=[requests_asset()],
    ),
    max_active_runs=1,
    tags={"requests"},
    default_args=DEFAULTS | {"owner": "Sampan"},
) as dag:
    carry_out()
