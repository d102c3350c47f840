"""What a build hands over to dbt."""

from __future__ import annotations

import os

from psycopg.pq import Conninfo
from sampan.marts import build
from sampan.settings import settings

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
    with build.environment("7/marts/3"):
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
    assert taken["options"].split() == [
        "-c", "statement_timeout=1h", "-c", "sampan.claim=7/marts/3", "-c", "sampan.as_known=", "-c",
        "timezone=Asia/Hong_Kong",
    ]  # fmt: skip
    assert "of-the-builder" not in taken.values()
