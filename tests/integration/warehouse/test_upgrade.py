"""A warehouse of an earlier version, with data: `sampan init` makes it this version's, dies on the way, or is undone."""

from __future__ import annotations

import inspect
import lzma
import os
import re
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sampan import __version__
from sampan.consent import delete_dead_rows, describe, revoke
from sampan.database import close_idle
from sampan.errors import PermanentFailure
from sampan.marts import build, release
from sampan.settings import settings
from sampan.warehouse import schema as warehouse

from infra.local.postgres import SUPERUSER, binaries
from tests import forked
from tests.conftest import ROOT, Sampan, drop_database
from tests.integration.infra.test_backup import Archived
from tests.integration.marts.test_engines import _first_difference, _hash, _tables
from tests.integration.warehouse.older.make import PSEUDONYM_KEY

DUMP = Path(__file__).parent / "older" / "0.1.0.sql.xz"
# Read from the source, so that new failpoints are tested as well.
POINTS = re.findall(r'failpoints\.hit\("([^"]+)"\)', inspect.getsource(warehouse))


def load_dump(dsn: str) -> None:
    """Put the dump into an empty database, as who owns it."""
    done = subprocess.run(
        [str(binaries() / "psql"), "--dbname", dsn, "--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1"],
        input=lzma.decompress(DUMP.read_bytes()), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture
def older(
    server: str, template: str, secrets_of_session: dict[str, str], quick_dbt: None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Sampan]:  # fmt: skip
    """A warehouse of version 0.1.0 on the session's server, whose roles are there (`template`). No object store."""
    name = f"sampan_older_{secrets.token_hex(4)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    dsn = make_conninfo(server, dbname=name)
    load_dump(dsn)
    yield from _installed(dsn, secrets_of_session, tmp_path, monkeypatch)
    drop_database(server, name)


def _installed(
    dsn: str, secrets_of_session: dict[str, str], state: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sampan]:
    environment = secrets_of_session | {
        "SAMPAN_STATE": str(state / "state"), "SAMPAN_WAREHOUSE_DSN": dsn, "SAMPAN_PSEUDONYM_KEY": PSEUDONYM_KEY,
    }  # fmt: skip
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    settings.cache_clear()
    installation = Sampan(environment, None, state / "state")
    yield installation
    for connection in installation.connections.values():
        connection.close()
    close_idle()
    settings.cache_clear()


def content(dsn: str, *schemas: str) -> dict[str, tuple[Any, ...]]:
    """For each table of these schemas, columns, number of rows and a hash of them."""
    found = {}
    with psycopg.connect(dsn, autocommit=True) as connection:
        query = """
            select c.oid::regclass::text, array_agg(attname || ' ' || atttypid::regtype order by attnum)
            from pg_class as c join pg_attribute as a on attrelid = c.oid and attnum > 0 and not attisdropped
            where relnamespace = any(%s::regnamespace[]) and relkind = 'r'
            group by c.oid
        """
        for table, columns in connection.execute(query, [list(schemas)]).fetchall():
            count, digest = connection.execute(
                f"select count(*), md5(string_agg(md5(t::text), '' order by md5(t::text))) from {table} as t"
            ).fetchone()
            found[table] = (columns, count, digest)
    return found


OF_LOADER = ("ops", "raw", "quarantine")


def version_in_force(sampan: Sampan) -> tuple[Any, ...]:
    ((row),) = sampan.rows("select version, applied_by from ops.schema_version order by applied_at desc limit 1")
    return row


def check_upgraded(sampan: Sampan, raw: dict[str, tuple[Any, ...]]) -> None:
    """Every row of raw is there, readers see their release, and the ledger says which version the warehouse is of."""
    dsn = settings().dsn("admin")
    assert {table: kept[1:] for table, kept in content(dsn, "raw").items()} == {
        table: kept[1:] for table, kept in raw.items()
    }
    assert version_in_force(sampan)[0] == __version__
    assert sampan.one("select count(*) from ops.schema_version where version is null") == 1
    assert sampan.one("select max(release_no) from marts.mart_sme_360", role="bi") == 1
    states = dict(sampan.rows("select state, count(*) from ops.batch group by 1"))
    assert states["published"] > 50
    assert sampan.one("select count(*) from quarantine.record where state = 'open'") == 1
    for (revoked,) in sampan.rows("select consent_id from ops.consent_revocation"):
        assert not describe(revoked)["live_scopes"]


def test_init_upgrades_a_warehouse_of_the_version_before_and_says_so_in_the_ledger(older):
    raw = content(settings().dsn("admin"), "raw")
    assert len(raw) > 50
    assert killed("init.before_commit") == -signal.SIGKILL
    done = older.cli("init")
    assert done.returncode == 0, done.stderr
    check_upgraded(older, raw)
    # Rows of a consent that is revoked leave the release of the version before, too, whose columns had other names.
    consents = "select consent_id, count(*) from consented_1.mart_credit_features group by 1 order by 1"
    with psycopg.connect(settings().dsn("builder"), autocommit=True) as builder:
        (gone, _), *others = builder.execute(consents).fetchall()
        revoke(gone, "the owner rang", "steward")
        delete_dead_rows()
        assert builder.execute(consents).fetchall() == others
        assert others
    version, by = version_in_force(older)
    assert (version, bool(by)) == (__version__, True)


def killed(point: str) -> int:
    """Run `init` in a process of its own, which is killed at a failpoint. Returns its return code."""
    code = "from sampan.warehouse import schema; schema.apply_schema()"
    return forked.run(["-c", code], os.environ | {"SAMPAN_FAILPOINT": point}, ROOT, timeout=300).returncode


def test_an_earlier_version_is_refused_and_changes_nothing(sampan, monkeypatch):
    """Kind of fault: who goes back to the version before runs its `init`, and has functions of both versions."""
    before = content(settings().dsn("admin"), "ops")
    monkeypatch.setattr(warehouse, "__version__", "0.1.9")
    with pytest.raises(PermanentFailure, match=f"version {__version__} made this warehouse"):
        warehouse.apply_schema()
    with pytest.raises(PermanentFailure, match=r"warehouse\.later"):
        warehouse.apply_schema(force=True)
    assert content(settings().dsn("admin"), "ops") == before
    monkeypatch.setattr(warehouse, "__version__", "0.10.0")
    warehouse.apply_schema()
    assert version_in_force(sampan) == ("0.10.0", "platform")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_upgrade_that_dies_at_any_step_changes_all_or_nothing_and_the_next_one_finishes_it(older):
    dsn = settings().dsn("admin")
    raw, before = content(dsn, "raw"), content(dsn, *OF_LOADER)
    assert len(POINTS) == len(set(POINTS)) >= 7
    for point in sorted(POINTS, key="init.after_commit".__eq__):
        assert killed(point) == -signal.SIGKILL, point
        if point != "init.after_commit":
            # What the loader owns is one transaction, and readers go on.
            assert content(dsn, *OF_LOADER) == before, point
            assert older.one("select max(release_no) from marts.mart_sme_360", role="bi") == 1
    check_upgraded(older, raw)
    applied = "select count(*) from ops.schema_version"
    before = older.one(applied)
    warehouse.apply_schema()
    assert older.one(applied) == before
    check_upgraded(older, raw)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_refresh_after_the_upgrade_answers_what_a_warehouse_without_a_past_does(older, models_only):
    warehouse.apply_schema()
    # Seeds that have changed are another reason to derive all again: this is about the version alone.
    older.rows("update ops.build set seeds_sha256 = %s returning 1", build._seeds_sha256())
    with psycopg.connect(settings().dsn("admin"), autocommit=True) as connection:
        build.run()
        assert older.one("select full_refresh from ops.build order by build_no desc limit 1")
        release.gate()
        first = release.run()["release_no"]
        assert first > 1
        news = older.one("select batch_id from ops.batch where feed = 'customs_declarations' order by 1 desc limit 1")
        assert (
            older.one("select count(*) from ops.release_batch where release_no = %s and batch_id = %s", first, news)
            == 1
        )
        # As if there had been no build before: nothing of the older version's tables is left.
        connection.execute("drop schema intermediate, staging cascade")
        for schema in ("intermediate", "staging"):
            connection.execute(f"create schema {schema} authorization sampan_builder")
        build.run(full_refresh=True)
        by_upgrade, without_a_past = (
            _tables(connection, [f"release_{first}", f"consented_{first}"]),
            _tables(connection, ["build"]),
        )
        assert by_upgrade.keys() == without_a_past.keys()
        assert len(without_a_past) > 40
        different = [
            name
            for name in without_a_past
            if _hash(connection, without_a_past[name]) != _hash(connection, by_upgrade[name])
        ]
        assert [_first_difference(connection, name, without_a_past[name], by_upgrade[name]) for name in different] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_upgrade_is_rolled_back_by_restoring_the_moment_before_it(tmp_path, secrets_of_session, monkeypatch):
    archived = Archived(tmp_path)
    archived.postgres.start()
    try:
        dsn = archived.postgres.dsn()
        load_dump(dsn)
        for sampan in _installed(dsn, secrets_of_session, tmp_path, monkeypatch):
            superuser = archived.postgres.dsn(user=SUPERUSER)
            raw, before = content(superuser, "raw"), content(superuser, *OF_LOADER, "intermediate", "release_1")
            archived.take()
            moment = archived.moment()
            warehouse.apply_schema()
            check_upgraded(sampan, raw)
            archived.archive_all()
            for connection in sampan.connections.values():
                connection.close()
            close_idle()
            archived.postgres.stop()
            archived.backups.restore(archived.postgres, moment)
            archived.postgres.start()
            assert content(superuser, *OF_LOADER, "intermediate", "release_1") == before
            warehouse.apply_schema()
            check_upgraded(sampan, raw)
    finally:
        archived.postgres.stop()
