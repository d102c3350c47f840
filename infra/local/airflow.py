"""Airflow as the local stack runs it: its processes, their settings, its metadata database and its health."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Any

import psycopg

from infra.local import workers
from infra.local.config import HOME, HOST, Config, StackError

PARALLELISM = 4
POOLS = {"warehouse": (3, "Tasks that keep the warehouse busy: load, gate, publish, build, release.")}
USER = "admin"
# Processes but for workers need the metadata database and the key of what is encrypted there. Sessions are the api-server's,
# tokens of tasks are made by the scheduler and checked by the api-server. The scheduler gives tasks to the broker, workers
# take them.
METADATA = frozenset({"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__FERNET_KEY"})
SIGNING = "AIRFLOW__API_AUTH__JWT_SECRET"
CELERY = frozenset({"AIRFLOW__CELERY__BROKER_URL", "AIRFLOW__CELERY__RESULT_BACKEND"})
USES = {
    "api-server": METADATA | {"AIRFLOW__API__SECRET_KEY", SIGNING},
    "scheduler": METADATA | {SIGNING} | CELERY,
    "dag-processor": METADATA,
    "triggerer": METADATA,
    **dict.fromkeys(workers.WORKERS, CELERY),
}
SECRET = frozenset().union(*USES.values())
PRELOADED = (
    "airflow.sdk.execution_time.task_runner",
    "airflow.dag_processing.dagbag",
    "airflow.providers.standard.decorators.python",
    "psycopg",
    "great_expectations",
    "dbt.cli.main",
    "dbt.adapters.postgres",
    # The last one.
    "infra.local.preload",
)


def commands(config: Config) -> dict[str, tuple[str, ...]]:
    """Command line of each process. No process serves logs over the network: all share the log folder."""
    airflow = (sys.executable, "-m", "airflow")
    return {
        "api-server": (*airflow, "api-server", "--host", HOST, "--port", config["SAMPAN_AIRFLOW_PORT"]),
        "scheduler": (*airflow, "scheduler", "--skip-serve-logs"),
        "dag-processor": (*airflow, "dag-processor"),
        "triggerer": (*airflow, "triggerer", "--skip-serve-logs"),
        **(workers.commands() if workers.are_wanted(config) else {}),
    }


def address(config: Config) -> str:
    """Where people and programs reach Airflow."""
    return f"http://{HOST}:{config['SAMPAN_AIRFLOW_PORT']}"


def database(config: Config) -> str:
    """libpq connection string of the metadata database."""
    return f"postgresql://airflow:{config['SAMPAN_AIRFLOW_DB_PASSWORD']}@{HOST}:{config['SAMPAN_PG_PORT']}/airflow"


def environment(config: Config, program: str | None = None) -> dict[str, str]:
    """Airflow's settings, as environment variables; they win over any airflow.cfg. A process gets its own secrets only."""
    home = config.state / "airflow"
    settings = {
        "core": {
            "dags_folder": HOME / "dags",
            "plugins_folder": HOME / "plugins",
            "executor": config["SAMPAN_AIRFLOW_EXECUTOR"],
            "parallelism": PARALLELISM,
            "max_active_tasks_per_dag": PARALLELISM,
            "max_active_runs_per_dag": 1,
            "load_examples": False,
            "dags_are_paused_at_creation": False,
            "default_timezone": "Asia/Hong_Kong",
            "fernet_key": config["SAMPAN_AIRFLOW_FERNET_KEY"],
            "execution_api_server_url": f"{address(config)}/execution/",
            "auth_manager": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
            "simple_auth_manager_users": f"{USER}:admin",
            "simple_auth_manager_passwords_file": home / "passwords.json",
        },
        "database": {
            "sql_alchemy_conn": database(config).replace("postgresql://", "postgresql+psycopg2://"),
            "load_default_connections": False,
        },
        "api": {
            "base_url": address(config),
            "host": HOST,
            "port": config["SAMPAN_AIRFLOW_PORT"],
            "workers": 1,
            "secret_key": config["SAMPAN_AIRFLOW_SECRET_KEY"],
            "enable_swagger_ui": False,
            "dag_cache_size": 64,
            "dag_cache_ttl": 3600,
            "instance_name": "Sampan (local stack, synthetic data)",
        },
        "api_auth": {"jwt_secret": config["SAMPAN_AIRFLOW_JWT_SECRET"]},
        "dag_processor": {
            "parsing_processes": 1,
            # Every `make up` has the DAG files read again at once, for contracts that changed.
            "min_file_process_interval": 300,
            "refresh_interval": 60,
            "disable_bundle_versioning": True,
        },
        "scheduler": {
            "scheduler_heartbeat_sec": 2,
            "scheduler_idle_sleep_time": 1,
            "task_instance_heartbeat_timeout": 60,
            "task_instance_heartbeat_timeout_detection_interval": 5,
            "orphaned_tasks_check_interval": 30,
            # The first task waits for the server that it is forked from, on a busy machine for half a minute.
            "scheduler_health_check_threshold": 45,
            "catchup_by_default": False,
            # Workers fork from a server that has imported what tasks import: seconds saved in every task.
            "mp_start_method": "forkserver",
            "mp_forkserver_preload": ",".join(("airflow.executors.local_executor", *PRELOADED)),
        },
        "triggerer": {"default_capacity": 50, "job_heartbeat_sec": 2, "triggerer_health_check_threshold": 15},
        # Executors leave a resumed task in peace only when its supervisor has gone: see the deferral race of 3.3.2.
        "workers": {"min_heartbeat_interval": 1},
        "logging": {"base_log_folder": home / "logs", "logging_level": "INFO"},
        "usage_data_collection": {"enabled": False},
        # Airflow's own metrics go to a collector when OpenTelemetry's own variable names one.
        "metrics": {"otel_on": "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ},
    }
    if workers.are_wanted(config):
        for section, items in workers.settings(config, PARALLELISM // len(workers.WORKERS), PRELOADED).items():
            settings[section] = settings.get(section, {}) | items
    if program in workers.WORKERS:
        settings["core"]["hostname_callable"] = f"{workers.__name__}.{workers.hostname.__name__}"
    variables = {
        f"AIRFLOW__{section.upper()}__{key.upper()}": str(value)
        for section, items in settings.items()
        for key, value in items.items()
    }
    unneeded = SECRET - USES.get(program, frozenset()) if program else frozenset()
    return {key: value for key, value in variables.items() if key not in unneeded} | {
        "AIRFLOW_HOME": str(home),
        # For the entry in Airflow's menu.
        "SAMPAN_DESK_URL": config.desk_url,
        "NO_COLOR": "1",
    }


def prepare(config: Config) -> None:
    """The file with the one user's password, mode 600."""
    passwords = config.state / "airflow" / "passwords.json"
    passwords.unlink(missing_ok=True)
    descriptor = os.open(passwords, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({USER: config["SAMPAN_AIRFLOW_PASSWORD"]}, file)


def migrate(config: Config, variables: dict[str, str], report: Callable[[str], None]) -> None:
    """Bring the metadata database to this Airflow's version; at once when it was this version that did it last."""
    from importlib.metadata import version

    wanted = version("apache-airflow-core")
    with psycopg.connect(database(config), autocommit=True) as connection:
        connection.execute("create table if not exists public.sampan_migrated (airflow_version text not null)")
        if connection.execute("select 1 from public.sampan_migrated where airflow_version = %s", (wanted,)).fetchone():
            return
        report(f"preparing the metadata database of Airflow {wanted}")
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env=variables,
            cwd=HOME,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise StackError(f"airflow db migrate failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        connection.execute("truncate public.sampan_migrated")
        connection.execute("insert into public.sampan_migrated values (%s)", (wanted,))


def health(config: Config) -> dict[str, bool]:
    """Health of each process by name, as Airflow itself judges by their heartbeats; empty when it does not answer."""
    try:
        with urllib.request.urlopen(f"{address(config)}/api/v2/monitor/health", timeout=5) as response:  # noqa: S310
            report = json.load(response)
    except (OSError, ValueError):
        return {}
    found = {name.replace("_", "-"): (part or {}).get("status") == "healthy" for name, part in report.items()}
    return found | {"api-server": found.get("metadatabase", False)}


def reparse(config: Config) -> None:
    """Have every DAG file read again at once: a contract that changed is not seen by the age of the DAG file."""
    api = Api(config)
    for token in {dag["file_token"] for dag in api.get("dags?limit=500")["dags"]}:
        api.call("PUT", f"parseDagFile/{token}")


def make_pools(config: Config) -> None:
    """Create the pools, or set their sizes."""
    api = Api(config)
    present = {pool["name"]: pool for pool in api.get("pools?limit=100")["pools"]}
    for name, (slots, description) in POOLS.items():
        body = {"name": name, "slots": slots, "description": description, "include_deferred": False}
        if name not in present:
            api.call("POST", "pools", body)
        elif present[name]["slots"] != slots:
            api.call("PATCH", f"pools/{name}", {"pool": name, **body})


class ApiError(StackError):
    """Airflow's API refused a request or did not answer."""


class Api:
    """Airflow's REST API as the stack's own user."""

    def __init__(self, config: Config) -> None:
        self.base = address(config)
        body = {"username": USER, "password": config["SAMPAN_AIRFLOW_PASSWORD"]}
        self.token = self._send("POST", f"{self.base}/auth/token", body, {})["access_token"]

    def get(self, path: str) -> Any:
        """Answer of GET `/api/v2/<path>`, parsed."""
        return self.call("GET", path)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Answer of `/api/v2/<path>`, parsed.

        Raises:
            ApiError: the API refused; with its own words.
        """
        return self._send(method, f"{self.base}/api/v2/{path}", body, {"Authorization": f"Bearer {self.token}"})

    def _send(self, method: str, url: str, body: Any, headers: dict[str, str], patience: float = 60.0) -> Any:
        """Ask, and ask again while the API is being restarted."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **headers}
        request = urllib.request.Request(url, data=data, method=method, headers=headers)  # noqa: S310
        deadline = time.monotonic() + patience
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
                    text = response.read()
                return json.loads(text) if text else None
            except urllib.error.HTTPError as error:
                if error.code < 500 or time.monotonic() > deadline:
                    raise ApiError(f"Airflow refused {method} {url}: {error.code} {error.read()[:500]!r}") from error
            except (OSError, HTTPException) as error:
                if time.monotonic() > deadline:
                    raise ApiError(f"Airflow does not answer {method} {url}: {error}") from error
            time.sleep(1)
