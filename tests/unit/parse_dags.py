"""Parse folders of DAG files as Airflow's dag-processor does, and print what came out as JSON. No process but this one
runs and nothing is connected to: `python parse_dags.py FOLDER...`."""

from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

from airflow.dag_processing.dagbag import DagBag
from airflow.plugins_manager import _get_plugins
from airflow.sdk.definitions._internal.dag_parsing_context import _airflow_parsing_context_manager
from airflow.serialization.serialized_objects import DagSerialization

ONE = "ingest__customs_declarations"
CONNECTED: list[str] = []


def _refuse(_: socket.socket, address: object) -> None:
    CONNECTED.append(str(address))
    raise ConnectionRefusedError("nothing is connected to while DAG files are parsed")


def _task(task: Any) -> dict[str, Any]:
    return {
        "downstream": sorted(task.downstream_task_ids),
        "pool": task.pool,
        "retries": task.retries,
        "trigger_rule": task.trigger_rule.value,
        "owner": task.owner,
        "doc_md": task.doc_md,
        "outlets": sorted(getattr(outlet, "uri", outlet.name) for outlet in task.outlets),
        "has_retry_policy": task.retry_policy is not None,
    }


def parse(folder: Path) -> dict[str, Any]:
    """Import errors, DAGs as they are and as they are serialised, CPU seconds, and top-level modules newly imported."""
    before, begun = set(sys.modules), time.process_time()
    bag = DagBag(str(folder))
    seconds = time.process_time() - begun
    return {
        "seconds": seconds,
        "files": sorted(Path(stat.file).name for stat in bag.dagbag_stats),
        "imported": sorted({name.split(".")[0] for name in set(sys.modules) - before}),
        "import_errors": {Path(path).name: error for path, error in bag.import_errors.items()},
        "dags": {
            dag_id: {
                "tasks": {task.task_id: _task(task) for task in dag.tasks},
                "tags": sorted(dag.tags),
                "doc_md": dag.doc_md,
                "owner_links": dag.owner_links,
                "max_active_runs": dag.max_active_runs,
                "serialised": DagSerialization.to_dict(dag),
            }
            for dag_id, dag in bag.dags.items()
        },
    }


def main() -> None:
    socket.socket.connect = _refuse  # type: ignore[method-assign]
    _, plugin_errors = _get_plugins()
    folders = [parse(Path(folder)) for folder in sys.argv[1:]]
    with _airflow_parsing_context_manager(dag_id=ONE):
        of_task = sorted(parse(Path(sys.argv[1]) / "ingest.py")["dags"])
    calendar = sys.modules["calendar"].__file__
    answer = {
        "folders": folders,
        "of_task": of_task,
        "connected": CONNECTED,
        "plugin_errors": plugin_errors,
        "calendar": calendar,
    }
    print("\n" + json.dumps(answer, default=str))


if __name__ == "__main__":
    main()
