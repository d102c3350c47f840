"""What dbt is given of the environment, and which database errors may pass."""

from __future__ import annotations

import os

import duckdb
import psycopg2
import pytest
from psycopg.pq import Conninfo
from sampan.marts import dbt
from sampan.marts.dbt import in_process
from sampan.settings import SERVER_PATIENCE, settings

DSN = (
    "host=warehouse.example port=6432 user=admin password=of-the-admin dbname=sampan sslmode=verify-full"
    " sslrootcert=/tls/ca.pem sslcert=/tls/sampan.pem sslkey=/tls/sampan.key target_session_attrs=read-write"
    " options='-c statement_timeout=1h'"
)


def test_environment_hands_every_part_of_the_dsn_over_and_takes_it_back(monkeypatch):
    monkeypatch.setenv("SAMPAN_WAREHOUSE_DSN", DSN)
    monkeypatch.setenv("SAMPAN_BUILDER_PASSWORD", "of-the-builder")
    settings.cache_clear()
    before = dict(os.environ)
    with dbt.environment("7/marts/3"):
        # What libpq takes where a client names nothing else, as psycopg2 does under dbt.
        taken = {item.keyword.decode(): item.val.decode() for item in Conninfo.get_defaults() if item.val}
        assert (os.environ["SAMPAN_DBT_HOST"], os.environ["SAMPAN_DBT_PORT"]) == ("warehouse.example", "6432")
        assert os.environ["SAMPAN_DBT_USER"] == taken["user"] == "sampan_builder"
        assert "of-the-admin" not in os.environ["DBT_ENV_SECRET_SAMPAN_PASSWORD"]
    settings.cache_clear()
    assert dict(os.environ) == before
    assert {name: taken[name] for name in ("sslmode", "sslrootcert", "sslcert", "sslkey", "target_session_attrs")} == {
        "sslmode": "verify-full", "sslrootcert": "/tls/ca.pem", "sslcert": "/tls/sampan.pem",
        "sslkey": "/tls/sampan.key", "target_session_attrs": "read-write",
    }  # fmt: skip
    patience = [word for name, value in SERVER_PATIENCE.items() for word in ("-c", f"{name}={value}")]
    assert taken["options"].split() == [
        *patience, "-c", "statement_timeout=1h", "-c", "search_path=pg_catalog,pg_temp", "-c", "sampan.claim=7/marts/3",
        "-c", "sampan.as_known=", "-c", "timezone=Asia/Hong_Kong",
    ]  # fmt: skip
    assert "of-the-builder" not in taken.values()


def _database_error(kind: type[psycopg2.Error], sqlstate: str | None) -> Exception:
    """An error of dbt's that comes from a database error."""
    cause = type("Raised", (kind,), {"pgcode": sqlstate})("a message that says nothing")
    error = RuntimeError("Database Error in model mart_exports")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("kind", "sqlstate", "expected"),
    [
        pytest.param(psycopg2.OperationalError, "55006", True, id="the claim was taken"),
        pytest.param(psycopg2.OperationalError, "40P01", True, id="deadlock"),
        pytest.param(psycopg2.OperationalError, "55P03", True, id="lock timeout"),
        pytest.param(psycopg2.OperationalError, "57P01", True, id="server shut down"),
        pytest.param(psycopg2.OperationalError, "08006", True, id="connection lost"),
        # A family of marts waited for a person when the disk was full, as if its model were wrong.
        pytest.param(psycopg2.OperationalError, "53100", True, id="no disk left"),
        pytest.param(psycopg2.OperationalError, "53300", True, id="too many connections"),
        pytest.param(psycopg2.OperationalError, None, True, id="no answer"),
        pytest.param(psycopg2.InterfaceError, None, True, id="connection closed"),
        pytest.param(psycopg2.ProgrammingError, None, False, id="wrong use of the driver"),
        pytest.param(psycopg2.ProgrammingError, "42601", False, id="syntax error"),
        pytest.param(psycopg2.IntegrityError, "23505", False, id="duplicate key"),
    ],
)
def test_database_error_is_transient_by_its_sqlstate(kind, sqlstate, expected):
    assert in_process._is_transient(_database_error(kind, sqlstate)) is expected


@pytest.mark.parametrize(("kind", "expected"), [(duckdb.IOException, True), (duckdb.OutOfMemoryException, False)])
def test_error_of_duckdb_is_transient_by_its_type(kind, expected):
    error = RuntimeError("Runtime Error in model mart_exports")
    error.__cause__ = kind("a message that says nothing")
    assert in_process._is_transient(error) is expected


def test_other_errors_are_not_transient():
    assert not in_process._is_transient(ValueError("could not connect to server"))
    assert not in_process._is_transient(None)
