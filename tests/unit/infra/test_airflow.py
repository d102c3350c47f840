"""The settings that the local stack gives Airflow."""

from __future__ import annotations

import pytest

from infra.local import airflow
from infra.local.config import load


@pytest.mark.parametrize(("collector", "wanted"), [(None, "False"), ("http://127.0.0.1:4318", "True")])
def test_metrics_go_to_a_collector_when_one_is_named(collector, wanted, monkeypatch, tmp_path):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    if collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
    config = load({"SAMPAN_STATE": str(tmp_path)})
    assert airflow.environment(config)["AIRFLOW__METRICS__OTEL_ON"] == wanted
    # Telemetry of the makers stays off.
    assert airflow.environment(config)["AIRFLOW__USAGE_DATA_COLLECTION__ENABLED"] == "False"
