"""The settings that the local stack gives Airflow."""

from __future__ import annotations

import pytest

from infra.local import airflow, workers
from infra.local.config import StackError, load, save
from infra.local.stack import Stack


@pytest.mark.parametrize(("collector", "wanted"), [(None, "False"), ("http://127.0.0.1:4318", "True")])
def test_metrics_go_to_a_collector_when_one_is_named(collector, wanted, monkeypatch, tmp_path):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    if collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
    config = load({"SAMPAN_STATE": str(tmp_path)})
    assert airflow.environment(config)["AIRFLOW__METRICS__OTEL_ON"] == wanted
    # Telemetry of the makers stays off.
    assert airflow.environment(config)["AIRFLOW__USAGE_DATA_COLLECTION__ENABLED"] == "False"


@pytest.fixture
def celery(tmp_path):
    return load({"SAMPAN_STATE": str(tmp_path), "SAMPAN_AIRFLOW_EXECUTOR": "CeleryExecutor"})


def test_a_worker_has_no_login_on_airflows_metadata_and_only_it_and_the_scheduler_know_the_broker(celery):
    """Kind of fault: a program that runs others' code, or nothing at all, holds the keys of another."""
    programs = airflow.commands(celery)
    assert set(workers.WORKERS) < set(programs)
    knows = {
        secret: {
            program
            for program in programs
            if any(celery[secret] in value for value in airflow.environment(celery, program).values())
        }
        for secret in (
            "SAMPAN_AIRFLOW_DB_PASSWORD", "SAMPAN_AIRFLOW_FERNET_KEY", "SAMPAN_AIRFLOW_JWT_SECRET",
            "SAMPAN_BROKER_PASSWORD", "SAMPAN_CELERY_DB_PASSWORD",
        )
    }  # fmt: skip
    everybody_else = set(programs) - set(workers.WORKERS)
    assert knows == {
        "SAMPAN_AIRFLOW_DB_PASSWORD": everybody_else,
        "SAMPAN_AIRFLOW_FERNET_KEY": everybody_else,
        "SAMPAN_AIRFLOW_JWT_SECRET": {"scheduler", "api-server"},
        "SAMPAN_BROKER_PASSWORD": {"scheduler", *workers.WORKERS},
        "SAMPAN_CELERY_DB_PASSWORD": {"scheduler", *workers.WORKERS},
    }


def test_workers_run_as_many_tasks_at_once_as_local_executor_and_name_themselves_as_the_host(celery):
    environment = airflow.environment(celery, "worker-1")
    assert int(environment["AIRFLOW__CELERY__WORKER_CONCURRENCY"]) * len(workers.WORKERS) == airflow.PARALLELISM
    module, _, function = environment["AIRFLOW__CORE__HOSTNAME_CALLABLE"].rpartition(".")
    assert (module, function) == ("infra.local.workers", "hostname")
    assert "AIRFLOW__CORE__HOSTNAME_CALLABLE" not in airflow.environment(celery, "scheduler")


def test_the_broker_hands_no_message_out_again_while_its_task_may_still_run(celery):
    # Imports Airflow, which takes seconds: in the worker that runs this.
    from sampan_airflow import DEFAULTS

    visibility = int(airflow.environment(celery)["AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"])
    assert visibility > DEFAULTS["execution_timeout"].total_seconds()


def test_the_executor_is_remembered_until_another_one_is_chosen(tmp_path):
    def chosen(**variables):
        config = load({"SAMPAN_STATE": str(tmp_path), **variables})
        save(config)
        return config["SAMPAN_AIRFLOW_EXECUTOR"], airflow.environment(config)["AIRFLOW__CORE__EXECUTOR"]

    assert chosen() == ("LocalExecutor", "LocalExecutor")
    assert chosen(SAMPAN_AIRFLOW_EXECUTOR="CeleryExecutor") == ("CeleryExecutor", "CeleryExecutor")
    assert chosen() == ("CeleryExecutor", "CeleryExecutor")
    assert chosen(SAMPAN_AIRFLOW_EXECUTOR="LocalExecutor") == ("LocalExecutor", "LocalExecutor")


def test_an_executor_that_the_local_stack_does_not_have_is_refused_with_where_to_read_on(tmp_path):
    with pytest.raises(StackError, match=r"has LocalExecutor and CeleryExecutor; for Kubernetes see docs/growth\.md"):
        load({"SAMPAN_STATE": str(tmp_path), "SAMPAN_AIRFLOW_EXECUTOR": "KubernetesExecutor"})


def test_a_stack_without_the_packages_of_celery_says_how_to_install_them(celery, monkeypatch):
    monkeypatch.setattr(workers, "find_spec", lambda name: None)
    with pytest.raises(StackError, match="run `make celery`"):
        Stack(celery).programs()
