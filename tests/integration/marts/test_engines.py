"""The marts of one world, built by PostgreSQL and by another engine, are the same. All values are synthetic."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sampan import consent
from sampan.marts import build, dbt, release
from sampan.settings import settings

from tests.conftest import copy_database, drop_database
from tests.integration.world import Simulated

pytestmark = pytest.mark.xdist_group("world")
# Two in three rows of the world came until then.
FIRST_PART = date(2026, 3, 31)
# By table: what else than rows readers, gate and release rely on.
ALIKE = {
    "columns": """
        select c.relname || '.' || attname, format_type(atttypid, atttypmod), attnotnull, col_description(c.oid, attnum)
        from pg_class as c
        join pg_attribute as a on a.attrelid = c.oid and attnum > 0
        where relnamespace = any(%s::regnamespace[]) and relkind in ('r', 'v')
    """,
    "comments": """
        -- Who may read a mart is told when it is released.
        select relname, regexp_replace(obj_description(oid), ' Disclosure: .*', '') from pg_class
        where relnamespace = any(%s::regnamespace[]) and relkind in ('r', 'v')
    """,
    "keys": """
        select r.relname, contype, array_agg(a.attname order by a.attname), confrelid::regclass::text ~ '.dim_'
        from pg_constraint as c
        join pg_class as r on r.oid = conrelid
        join pg_attribute as a on attrelid = conrelid and attnum = any(conkey)
        where connamespace = any(%s::regnamespace[]) and contype in ('p', 'f')
        group by c.oid, r.relname
    """,
    "indexes": """
        select tablename, regexp_replace(indexdef, '^.* USING', '') from pg_indexes
        where schemaname::regnamespace = any(%s::regnamespace[])
    """,
    "policies": """
        select tablename, policyname, roles::text, qual from pg_policies
        where schemaname::regnamespace = any(%s::regnamespace[])
    """,
}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_duckdb_builds_in_two_parts_the_marts_that_postgresql_built_in_one(
    world: Simulated, models_only: None, tmp_path: Path
) -> None:
    """Of a small world in tests/golden."""
    with world.installed():
        builds_the_same("duckdb", FIRST_PART, 100, tmp_path, has_unit_tests=True)


def builds_the_same(
    name: str,
    first_part: date,
    least: int,
    folder: Path,
    *,
    has_unit_tests: bool = False,
    before: Callable[[bool], None] = lambda is_full: None,
    **more: str,
) -> None:
    """Build what is released once more with an engine, in a copy of the installed warehouse: what came until `first_part`,
    and then the rest, of more than `least` batches. With `has_unit_tests` let it also make what dbt's unit tests expect.
    `before` is called before the intermediate models of the first part, which is full, and before the second build. `more`
    are settings."""
    with (
        copied(folder, SAMPAN_BUILD_ENGINE=name, **more) as copy,
        psycopg.connect(copy, autocommit=True) as connection,
    ):
        (released,) = connection.execute("select max(release_no) from ops.release").fetchone()
        connection.execute("delete from ops.build_batch")
        # As in a warehouse that never built itself.
        connection.execute(
            "drop schema intermediate, staging cascade; create schema intermediate; create schema staging"
        )
        connection.execute(
            "alter schema intermediate owner to sampan_builder; alter schema staging owner to sampan_builder"
        )
        later = connection.execute(
            "update ops.batch set state = 'gated' where state = 'published' and business_date > %s returning batch_id",
            [first_part],
        ).fetchall()
        assert len(later) > least
        # All that is kept from one build to the next.
        for step in ("staging", "identity", "intermediate"):
            if step == "intermediate":
                before(True)
            assert build.run(step)["nodes"] > 0
        of_newest = (
            "select engine, full_refresh, state from ops.build where build_no = (select max(build_no) from ops.build)"
        )
        assert connection.execute(of_newest).fetchone() == (name, True, "open")
        connection.execute("update ops.build set state = 'released' where state = 'open'")
        connection.execute(
            "update ops.batch set state = 'published' where batch_id = any(%s)", [[no for (no,) in later]]
        )
        before(False)
        build.run()
        assert connection.execute(of_newest).fetchone() == (name, False, "built")
        by_postgres, by_engine = [f"release_{released}", f"consented_{released}"], ["build"]
        # Of consents that have ended by now, whose rows leave releases and builds when something is built.
        consent.delete_dead_rows()
        places, wanted = _tables(connection, by_engine), _tables(connection, by_postgres)
        assert places.keys() == wanted.keys()
        different = [name for name in wanted if _hash(connection, wanted[name]) != _hash(connection, places[name])]
        assert [_first_difference(connection, name, wanted[name], places[name]) for name in different] == []
        for what, query in ALIKE.items():
            found, expected = (connection.execute(query, [at]).fetchall() for at in (by_engine, by_postgres))
            assert sorted(map(str, found)) == sorted(map(str, expected)), what
            assert expected, what
        assert release.gate()["carried"] == 0
        # What models make of a few rows, worked out by hand.
        assert not has_unit_tests or dbt.command(["test", "--select", "test_type:unit", "--quiet"])


@contextmanager
def copied(folder: Path, **more: str) -> Iterator[str]:
    """DSN of the administrator of a copy of the installed warehouse, which is installed instead with more settings."""
    before = settings().get("SAMPAN_WAREHOUSE_DSN")
    name = f"sampan_engine_{secrets.token_hex(4)}"
    copy_database(before, str(conninfo_to_dict(before)["dbname"]), name)
    dsn = make_conninfo(before, dbname=name)
    environment = {"SAMPAN_WAREHOUSE_DSN": dsn, "SAMPAN_STATE": str(folder)} | more
    with pytest.MonkeyPatch.context() as patch:
        for key, value in environment.items():
            patch.setenv(key, value)
        settings.cache_clear()
        yield dsn
    settings.cache_clear()
    drop_database(before, name)


def _tables(connection: psycopg.Connection, schemas: list[str]) -> dict[str, sql.Identifier]:
    query = """
        select relname, nspname from pg_class join pg_namespace as n on n.oid = relnamespace
        where nspname = any(%s) and relkind in ('r', 'v')
        order by relname
    """
    return {name: sql.Identifier(schema, name) for name, schema in connection.execute(query, [schemas]).fetchall()}


def _columns(connection: psycopg.Connection, table: sql.Identifier) -> list[str]:
    """The columns of a mart that do not number its release."""
    described = connection.execute(sql.SQL("select * from {} limit 0").format(table)).description or ()
    return [column.name for column in described if column.name != "release_no"]


def _hash(connection: psycopg.Connection, table: sql.Identifier) -> tuple[Any, ...] | None:
    """How many rows a mart has, and one hash of them all."""
    names = sql.SQL(", ").join(map(sql.Identifier, _columns(connection, table)))
    query = sql.SQL(
        "select count(*), md5(string_agg(line, '' order by line)) from (select md5(row({})::text) as line from {}) as lines"
    )
    return connection.execute(query.format(names, table)).fetchone()


def _first_difference(connection: psycopg.Connection, name: str, wanted: sql.Identifier, found: sql.Identifier) -> str:
    """Mart, row and column of a difference, with both values."""
    columns = _columns(connection, wanted)
    rows, others = (
        sql.SQL("select {} from {}").format(sql.SQL(", ").join(map(sql.Identifier, columns)), at)
        for at in (wanted, found)
    )
    left, right = (
        sorted(connection.execute(sql.SQL("{} except all {}").format(*pair)).fetchall(), key=repr)
        for pair in ((rows, others), (others, rows))
    )
    if not left or not right:
        return (
            f"{name}: {len(left)} rows only by PostgreSQL, {len(right)} only by the other, first {(left or right)[:1]}"
        )
    apart = {column: pair for column, *pair in zip(columns, left[0], right[0], strict=True) if pair[0] != pair[1]}
    return f"{name}: {len(left)} rows differ, first {left[0][:4]} in {apart}"
